"""Do the benchmarks run from end to end?  With tiny numbers: what they print here is no figure."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import batches, cancel, gpu, memory, prefixes, replay
from benchmarks.load import Prompts, Server
from tests.flow.engine import Engine
from tests.flow.stack import Stack

PLAN = replace(gpu.PLANS["cpu"], output_tokens=4, streams=(2,))
SLOW_S = 300


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """An engine with the 24B's road and not its size, which three programs measure."""
    with gpu.started("cpu", PLAN) as url:
        yield url


def cells(told: str) -> list[list[str]]:
    """The last table's rows, without its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if line.startswith("|")]
    assert rows
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows[2:]


@pytest.mark.engine
@pytest.mark.timeout(SLOW_S)
def test_the_24b_s_road_on_the_cpu(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.report_on(small, PLAN, 1)
    direct, service = cells(capsys.readouterr().out)
    assert (direct[1], service[1]) == ("direct", "service")
    assert direct[2] == service[2] == str(gpu.LEAST_CHATS)
    assert direct[-1] == service[-1] == "0", "nothing failed"
    assert float(direct[-2]) > 0.1, "prompts of one group share their beginning"


@pytest.mark.engine
@pytest.mark.timeout(SLOW_S)
async def test_both_policies_take_the_same_load(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "PROMPTS", Prompts(2, 60, 10))
    arms = [prefixes.Arm("fcfs", 2), prefixes.Arm("lpm", 2)]
    tallies = await prefixes.measured({"fcfs": small, "lpm": small}, arms, 6, 1)
    rows = [prefixes.row(arm, tallies) for arm in arms]
    assert [(row[0], row[1], row[2], row[-2]) for row in rows] == [
        ("fcfs", "2 at a time", "6", "0"),
        ("lpm", "2 at a time", "6", "0"),
    ]
    assert len(rows[0]) == len(prefixes.COLUMNS)
    assert tallies[arms[0]].prompt_tokens == tallies[arms[1]].prompt_tokens


@pytest.mark.engine
@pytest.mark.timeout(SLOW_S)
async def test_every_way_to_leave_frees_the_engine(small: str, tmp_path: Path) -> None:
    with Stack(tmp_path, None, TRAM_ENGINE_URL=small) as stack:
        rows = await cancel.measured(small, Server(stack.url, "", stack.key), 1)
    assert [row[1] for row in rows] == ["1"] * 4
    assert all(0 < float(row[3]) < cancel.LIMIT_S * 1000 for row in rows)


def test_memory_is_sampled_to_the_last_job(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--jobs", "60"])
    rows = cells(capsys.readouterr().out)
    assert [(row[0], row[1]) for row in rows] == [(name, "60") for name in memory.JUDGED]


def test_a_batch_is_watched_to_its_end_and_judged(tmp_path: Path) -> None:
    with Engine() as engine, Stack(tmp_path, engine) as stack:
        batch, samples, killed = batches.watched(stack, batches.begun(stack, 40), 40)
        batches.judged(stack, batch, 40)
        with pytest.raises(AssertionError):
            batches.judged(stack, batch, 41)
    assert 10 <= killed <= 40, "the worker was killed twice"
    assert samples[-1][1].keys() == set(batches.JUDGED)


def test_the_slope_is_bytes_a_job() -> None:
    samples = [(jobs, {"worker": 50_000_000 + 3 * jobs}) for jobs in (100, 200, 300, 400, 500, 600)]
    assert memory.slope(samples, "worker") == pytest.approx(3)
    assert memory.row(samples, "worker")[-2:] == ["+3", "yes"]
    leaking = [(jobs, {"worker": 2048 * jobs}) for jobs, _ in samples]
    assert memory.row(leaking, "worker")[-2:] == ["+2048", "no"]


@pytest.mark.engine
@pytest.mark.timeout(SLOW_S)
async def test_recorded_conversations_come_out_again(engine_url: str, tmp_path: Path) -> None:
    with Stack(tmp_path, None, TRAM_ENGINE_URL=engine_url, TRAM_MODEL=replay.CARD.id) as stack:
        told = await replay.on_the_same(stack, engine_url, 2)
    rows = [replay.row(one) for one in told]
    assert [row[1] for row in rows] == ["6", "6", "6", "18"]
    assert {len(row) for row in rows} == {len(replay.COLUMNS)}
    assert all(sum(map(int, row[2:5])) == int(row[1]) for row in rows)
    assert {len(replay.parted_row(one)) for one in told} == {len(replay.PARTED)}
