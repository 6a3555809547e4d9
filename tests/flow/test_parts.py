"""What if what we stand on dies: Redis with all it held, Postgres, the object store?"""

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.engine import answers, tokens
from tests.flow.hooks import Hooks, told
from tests.flow.production import Production
from tests.flow.sse import Event, events, numbers, text_of
from tests.flow.stack import Stack, said

pytestmark = pytest.mark.timeout(300)
LARGE = "!tokens=6000 stamp"
"""More than a row takes."""


@pytest.fixture
def lose_redis(tram: Stack, column: str, request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], None]:
    """Kills it, and brings an empty one back; where the test runs it itself, `meanwhile` happens in between."""

    def embedded(_: Callable[[], None]) -> None:
        old = tram.kill("redis")
        shutil.rmtree(tram.folder / "data" / "redis" / "appendonlydir")
        tram.restarted("redis", old)

    def production(meanwhile: Callable[[], None]) -> None:
        parts: Production = request.getfixturevalue("parts")
        parts.stop_redis()
        meanwhile()
        parts.start_redis()

    return embedded if column == "embedded" else production


def test_redis_may_lose_everything(tram: Stack, lose_redis: Callable[[Callable[[], None]], None]):
    """With jobs queued, jobs running, and streams open at both doors; what comes while it is away is accepted."""
    with ThreadPoolExecutor(8) as pool:
        chatting = [pool.submit(_chat, tram, "!tokens=80 rate=20") for _ in range(2)]
        tram.engine.wait(running=2)
        made = [tram.submit("!tokens=80 rate=20") for _ in range(12)]
        before = tram.engine.wait(running=8)["tokens"]
        following = [pool.submit(tram.follow, job_id) for job_id in (*made[:2], *made[-2:])]
        tram.engine.wait(min_tokens=before + 80)
        lose_redis(lambda: made.append(tram.submit("!tokens=80 rate=20")))
        made.append(tram.submit("!tokens=80 rate=20"))
        streams = [future.result(120) for future in following + chatting]
    ended = [tram.ended(job_id, 120) for job_id in made]
    assert Counter(job["state"] for job in ended) == {"completed": len(made)}
    assert answers(ended) == {(tokens(80), 80): len(made)}
    for stream in streams:
        assert text_of(stream) == tokens(80)
        assert numbers(stream) == list(range(1, len(numbers(stream)) + 1))


def test_webhooks_outlive_the_upkeep(tram: Stack, hooks: Hooks):
    old = tram.kill("upkeep")
    made = [tram.submit("!tokens=3", webhook_url=hooks.url) for _ in range(5)]
    tram.restarted("upkeep", old)
    assert {told(sent).event["data"]["id"] for sent in hooks.sent(5)} == set(made)


def test_postgres_may_restart(production: Stack, parts: Production):
    """Cut off in mid-answer, at the end of answers, and with a caller at the door."""
    made = [production.submit(f"!tokens={count} rate=20") for count in (10, 20, 30, 40, 50, 60)]
    before = production.engine.wait(running=6)["finished"]
    with ThreadPoolExecutor(2) as pool:
        following = pool.submit(production.follow, made[-1])
        parts.database.stop()
        asking = pool.submit(production.submit, "!tokens=3")
        production.engine.wait(min_finished=before + 3)
        parts.database.start()
        made.append(asking.result(60))
        assert text_of(following.result(60)) == tokens(60)
    ended = [production.ended(job_id) for job_id in made]
    assert {(job["state"], job["attempt"]) for job in ended} == {("completed", 1)}
    assert answers(ended) == {(tokens(count), count): 1 for count in (10, 20, 30, 40, 50, 60, 3)}


def test_the_object_store_may_be_away(production: Stack, parts: Production):
    """Then a large answer stays in its row, and an earlier one has to wait."""
    earlier = production.submit(LARGE)
    text = production.ended(earlier)["result"]["choices"][0]["message"]["content"]
    parts.stop_s3()
    job = production.ended(production.submit(LARGE))
    assert (job["state"], job["usage"]["completion_tokens"]) == ("completed", 6000)
    assert len(job["result"]["choices"][0]["message"]["content"]) > 60_000
    refused = production.http.get(f"/v1/jobs/{earlier}")
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "service_unavailable")
    assert int(refused.headers["retry-after"]) <= 120
    assert production.http.get("/v1/jobs", params={"limit": 1}).is_success
    parts.start_s3()
    assert production.job(earlier)["result"]["choices"][0]["message"]["content"] == text
    assert production.job(job["id"]) == job


def test_a_database_that_stays_away_is_said_so(production: Stack, parts: Production):
    """Within the patience that a caller has, and with advice when to come back."""
    body = {"messages": said("!tokens=3")}
    parts.database.stop()
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(production.http.post, "/v1/jobs", json=body)
        looked = pool.submit(production.http.get, "/ready")
        answer, ready = asked.result(60), looked.result(60)
    parts.database.start()
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) <= 120
    assert (ready.status_code, ready.json()) == (503, {"database": False, "redis": True})
    assert production.ended(production.submit("!tokens=3"))["state"] == "completed"


def _chat(stack: Stack, text: str) -> list[Event]:
    with stack.streamed(text) as response:
        return list(events(response))
