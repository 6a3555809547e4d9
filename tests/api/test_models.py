"""GET /v1/models, and what a model's name leads to: an API alone, and workers that only say that they are there."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from openai import OpenAI
from redis import Redis

from infra.fleet import Engine, Worker
from infra.redis import CARD, CARDS, WORKER, WORKERS
from models.cards.card import Card, catalogue, resolve
from tests.api.conftest import KEY, Api
from tests.flow.stack import until

ASKED = {"messages": [{"role": "user", "content": "Hello!"}]}
DEMO, LARGE = catalogue()["tram-demo"], catalogue()["mistral-small-24b-instruct-2501-awq"]
TINY = DEMO.model_copy(update={"id": "tiny", "aliases": ("org/Tiny",)})
WITHIN_S = 20


@pytest.fixture
def present(redis_url: str) -> Iterator[Callable[..., None]]:
    """A worker that announces itself once, as if it were there until the test's end."""
    redis = Redis(unix_socket_path=redis_url.removeprefix("unix://"))

    def announce(card: Card, name: str, **told: Any) -> None:
        said = {"host": "h", "pid": 1, "capacity": 8, "engine": Engine(joined=True), "version": "0", "since": 1.0}
        redis.set(WORKER + name, Worker(name=name, card=card.id, **said | told).model_dump_json(), ex=WITHIN_S)
        redis.sadd(WORKERS, name)
        redis.set(CARD + card.id, card.model_dump_json(), ex=WITHIN_S)
        redis.sadd(CARDS, card.id)

    yield announce
    if names := redis.smembers(WORKERS):
        redis.delete(*(WORKER.encode() + name for name in names))
    redis.close()


@pytest.fixture(autouse=True)
def alone(api: Api) -> None:
    """Workers of the test before are gone; an API that has just begun believes so after a while, as this Redis has no mark."""
    until(lambda: not any(model["served"] for model in listed(api).values()), WITHIN_S)


def listed(api: Api) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in api.http.get("/v1/models").raise_for_status().json()["data"]}


def test_what_is_only_known_is_listed_and_marked(api: Api):
    models = listed(api)
    assert set(catalogue()) <= set(models)
    for model in models.values():
        assert (model["served"], model["workers"], model["capacity"], model["running"]) == (False, 0, 0, 0)


def test_what_is_served_comes_first_with_its_workers(api: Api, present: Callable[..., None]):
    present(DEMO, "a", capacity=8, running=3)
    present(DEMO, "b", capacity=16, running=4)
    present(TINY, "c")
    models = listed(api)
    assert list(models)[:2] == [DEMO.id, "tiny"]
    demo = models[DEMO.id]
    assert (demo["served"], demo["workers"], demo["capacity"], demo["running"]) == (True, 2, 24, 7)
    assert {name for name, model in models.items() if model["served"]} == {DEMO.id, "tiny"}


def test_all_that_a_card_knows_is_told(api: Api, present: Callable[..., None]):
    for name, known in (("a", "fp_2"), ("b", "fp_1"), ("c", "fp_2"), ("d", "")):
        present(DEMO, name, fingerprint=known)
    models = listed(api)
    assert models[DEMO.id]["system_fingerprints"] == ["fp_1", "fp_2"]
    for card in catalogue().values():
        told = models[card.id]
        whole = card.model_dump(mode="json")
        same = ("aliases", "stands_in_for", "weights", "revision", "sampling", "tool_calls", "modalities")
        same += ("capabilities", "max_output_tokens", "launched", "retires", "successor", "owned_by", "description")
        assert {name: told[name] for name in same} == {name: whole[name] for name in same}
        assert told["context_length"] == card.context_tokens
        assert told["pricing"] == {"currency": "USD", "per_tokens": 1_000_000, **whole["prices"]}
        assert (told["object"], type(told["created"])) == ("model", int)


@pytest.mark.parametrize("name", ["tiny", "org/Tiny", "org-Tiny", *LARGE.aliases[:2]])
def test_an_alias_leads_to_its_model(api: Api, present: Callable[..., None], name: str):
    present(TINY, "a")
    model = api.http.get(f"/v1/models/{name}").raise_for_status().json()
    assert model["id"] == ("tiny" if "iny" in name else LARGE.id)
    assert model["served"] is ("iny" in name)


def test_openai_s_client_reads_it(api: Api):
    with OpenAI(base_url=f"http://127.0.0.1:{api.port}/v1", api_key=KEY) as client:
        found = {model.id: model for model in client.models.list()}
        assert found[DEMO.id] == client.models.retrieve(DEMO.id)
        assert (found[DEMO.id].object, found[DEMO.id].owned_by) == ("model", DEMO.owned_by)


@pytest.mark.parametrize("path", ["/v1/models/no/such", "/v1/models/tiny-no"])
def test_what_there_is_not_is_not_found(api: Api, path: str):
    answer = api.http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_nobody_could_answer_is_refused_and_says_when_to_come_back(api: Api, stream: bool):
    answer = api.http.post("/v1/chat/completions", json=ASKED | {"model": LARGE.id, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_worker")
    assert answer.json()["error"]["type"] == "service_unavailable"
    assert 0 < int(answer.headers["retry-after"]) <= 120


def test_what_was_asked_before_is_told_though_nobody_is_there(api: Api, present: Callable[..., None], redis_url: str):
    """Whoever comes back under their key hears how it ended, not that a new one could not begin."""
    present(TINY, "a")
    listed(api)
    key, body = {"Idempotency-Key": uuid4().hex}, ASKED | {"model": "tiny", "stream": True}
    with api.http.stream("POST", "/v1/chat/completions", json=body, headers=key) as line:
        api.http.delete(f"/v1/jobs/{line.headers['x-tram-job']}").raise_for_status()
        assert '"cancelled"' in line.read().decode()
    with Redis(unix_socket_path=redis_url.removeprefix("unix://")) as redis:
        redis.delete(WORKER + "a")
    until(lambda: not listed(api)["tiny"]["served"], WITHIN_S)
    assert api.http.post("/v1/chat/completions", json=body).json()["error"]["code"] == "no_worker"
    again = api.http.post("/v1/chat/completions", json=body, headers=key)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "cancelled")
    other = api.http.post("/v1/chat/completions", json=body | {"seed": 1}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_what_the_caller_must_change_is_told_before_that(api: Api):
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"messages": [{"role": "user", "content": [image]}], "model": DEMO.id}
    assert api.http.post("/v1/chat/completions", json=body).status_code == 400
    answer = api.http.post("/v1/chat/completions", json=ASKED | {"model": "no-such"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_what_has_time_waits_for_a_worker(api: Api):
    job = api.http.post("/v1/jobs", json=ASKED | {"model": LARGE.id})
    background = api.http.post("/v1/chat/completions", json=ASKED | {"model": LARGE.id, "background": True})
    assert (job.status_code, job.json()["state"]) == (202, "queued")
    assert (background.status_code, background.json()["status"]) == (202, "queued")


@pytest.mark.parametrize(
    ("name", "instead"), [(name, card) for card in catalogue().values() for name in card.stands_in_for]
)
def test_another_card_stands_in_while_nobody_serves_the_one_that_is_asked_for(
    api: Api, present: Callable[..., None], name: str, instead: Card
):
    """Seen by whose limit is told."""

    def limited_by() -> str:
        listed(
            api
        )  # reads anew who is there; that somebody better has come or somebody has gone shows within a second else
        answer = api.http.post("/v1/jobs", json=ASKED | {"model": name, "max_tokens": 1_000_000})
        assert answer.status_code == 400, answer.text
        return next(card_id for card_id in catalogue() if f" {card_id} " in answer.json()["error"]["message"])

    own = resolve(name)
    assert own is not None
    assert limited_by() == own.id != instead.id
    present(instead, "a")
    assert limited_by() == instead.id
    present(own, "b")
    assert limited_by() == own.id


def test_an_account_sees_the_models_that_it_may_use(api: Api):
    limits = {"name": "one model", "allowed_models": [LARGE.aliases[0]]}
    key = api.http.post("/v1/sub-accounts", json=limits).raise_for_status().json()["scoped_key"]
    bearer = {"Authorization": f"Bearer {key}"}
    told = api.http.get("/v1/models", headers=bearer).raise_for_status().json()
    assert [model["id"] for model in told["data"]] == [LARGE.id]
    assert api.http.get(f"/v1/models/{LARGE.aliases[0]}", headers=bearer).is_success
    assert api.http.get(f"/v1/models/{DEMO.id}", headers=bearer).status_code == 404


def test_a_refusal_is_counted_under_its_code(api: Api):
    api.http.get("/v1/models/nobody-s")
    assert 'tram_refusals_total{code="model_not_found"}' in api.http.get("/metrics").text
