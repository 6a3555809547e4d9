"""Does the load say truly what a server did with it?  Against the scriptable engine."""

from dataclasses import replace

import pytest

from benchmarks import load, report
from benchmarks.load import Answer, Prompts, Server, Tally
from tests.fakes.engine import FakeEngine

PROMPTS = Prompts(groups=2, system_tokens=40, user_tokens=5)
LIMIT_S = 20.0


@pytest.fixture
async def engine():
    async with FakeEngine() as running:
        yield running


@pytest.fixture
async def http():
    async with load.session() as session:
        yield session


@pytest.fixture
def server(engine):
    return Server(engine.url, "tiny")


def chats(words, count):
    return [[{"role": "user", "content": words}] for _ in range(count)]


async def test_a_stream_s_times_and_counts_are_told(http, server):
    answer = await load.ask(http, server, chats("!tokens=5 rate=100 first=0.1", 1)[0])
    assert answer.ttft_s >= 0.1
    assert len(answer.gaps_s) == 4
    assert sum(answer.gaps_s) == pytest.approx(0.04, abs=0.5)
    assert answer.completion_tokens == 5
    assert answer.prompt_tokens == 4


async def test_prompts_share_their_groups_and_nothing_else(http, server, engine):
    prompts = await load.calibrated(http, server, PROMPTS)
    assert prompts.words_per_token == 1, "this engine's tokens are words"
    drawn = prompts.drawn(20, "seed")
    assert drawn == prompts.drawn(20, "seed") != prompts.drawn(20, "another")
    assert len({system["content"] for system, _ in drawn}) == 2
    assert len({user["content"] for _, user in drawn}) == 20
    await load.flush(http, engine.url)
    tally = await load.keep_open(http, server, drawn, 4, LIMIT_S)
    assert tally.cached_tokens == 18 * 41, "all but each group's first"
    assert tally.prompt_tokens == 20 * 47
    assert tally.cached_share == pytest.approx(18 * 41 / (20 * 47))


async def test_so_many_streams_are_open_at_a_time(http, server, engine):
    most = 0
    changed = engine.changed

    def watched():
        nonlocal most
        most = max(most, engine.running)
        changed()

    engine.changed = watched
    tally = await load.keep_open(http, server, chats("!tokens=3 rate=100", 12), 4, LIMIT_S)
    assert most == 4
    assert len(tally.answers) == len(tally.firsts_s) == 12
    assert tally.tokens_per_s == pytest.approx(36 / tally.seconds)
    assert not tally.failures


async def test_a_key_is_sent_and_parameters_reach_the_engine(http, server, engine):
    await load.ask(http, replace(server, key="sk"), chats("hello", 1)[0], max_tokens=3, ignore_eos=True)
    assert engine.requests[-1]["ignore_eos"] is True
    assert engine.requests[-1]["max_tokens"] == 3


@pytest.mark.parametrize(
    ("script", "named"), [("!status=500", "HTTP 500"), ("!error_event", "queue is full"), ("!fail_after=2", "Client")]
)
async def test_what_fails_is_counted(http, server, script, named):
    tally = await load.keep_open(http, server, [*chats(script, 2), *chats("hello", 1)], 1, LIMIT_S)
    assert len(tally.answers) == 1
    assert tally.failures.total() == 2
    assert named in next(iter(tally.failures))


async def test_what_is_not_done_in_time_is_counted(http, server):
    tally = await load.keep_open(http, server, chats("!hang", 5), 2, 0.2)
    assert not tally.answers
    assert tally.failures == {"not done within 0.2 s": 5}


def test_tallies_add_up():
    one = Tally([Answer(0.1, 5.1, (0.01, 0.03), 3, 10, 4)], seconds=1.0, firsts_s=[0.5])
    one += Tally([Answer(0.3, 6.1, (0.02,), 2, 10, 8)], seconds=1.0, firsts_s=[0.7])
    assert one.tokens_per_s == 2.5
    assert one.cached_share == 0.6
    assert (one.ttft_ms(0), one.ttft_ms(0.99)) == (100, 300)
    assert one.gap_ms(0.5) == 20
    assert one.first_ms(0.99) == 700


def test_rows_are_a_page_s_table():
    assert report.table(("a", "b"), [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_busy_machine_says_so(monkeypatch):
    monkeypatch.setattr(report.os, "getloadavg", lambda: (99.0, 0, 0))
    assert "BUSY" in report.taken("x")
    monkeypatch.setattr(report.os, "getloadavg", lambda: (0.1, 0, 0))
    assert report.taken("x").endswith(", x")
