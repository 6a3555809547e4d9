"""Sub-accounts from outside: aigateway-py and openai-python on their keys, every limit as its clients read it, and books that agree
with the answers.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import aigateway
import openai
import pytest

from tests.flow.stack import Stack, deadline_in, said, until

SHORT = {"max_completion_tokens": 20}
CENT = 10_000
"""Micro-dollars."""
FORGOTTEN_S = 20.0
"""Above the five seconds for which an API process knows a key and its limits."""


@pytest.fixture
def gateway(tram: Stack) -> Iterator[aigateway.AIgateway]:
    with aigateway.AIgateway(api_key=tram.key, base_url=tram.url) as made:
        yield made


class Shop:
    """A sub-account, and clients with its key."""

    def __init__(self, stack: Stack, held: ExitStack, **limits) -> None:
        made = stack.http.post("/v1/sub-accounts", json={"name": f"shop-{uuid4().hex[:8]}", **limits})
        assert made.status_code == 201, made.text
        self.id, self.key, self._stack = made.json()["id"], made.json()["scoped_key"], stack
        self.http = held.enter_context(stack.client(self.key))
        self.openai = held.enter_context(
            openai.OpenAI(base_url=f"{stack.url}/v1", api_key=self.key, max_retries=0, timeout=60)
        )

    def ask(self, text="!tokens=3", **fields):
        body = {"messages": said(text), **SHORT, **fields}
        return self.http.post("/v1/chat/completions", json=body)

    def submit(self, text="!hang", **fields):
        return self.http.post("/v1/jobs", json={"messages": said(text), **SHORT, **fields})

    def cancel(self, job_id):
        self.http.delete(f"/v1/jobs/{job_id}").raise_for_status()

    def ended(self, job_id):
        until(lambda: self.http.get(f"/v1/jobs/{job_id}").json()["usage"] is not None, 60)
        return self.http.get(f"/v1/jobs/{job_id}").json()

    def view(self):
        return self._stack.http.get(f"/v1/sub-accounts/{self.id}").raise_for_status().json()


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[object]:
    """Makes sub-accounts on the stack that the test runs on."""
    with ExitStack() as held:
        stack = request.getfixturevalue("priced" if "priced" in request.fixturenames else "tram")
        yield lambda **limits: Shop(stack, held, **limits)


def error(answer):
    return answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["code"]


def test_aigateway_makes_finds_lists_and_deletes_sub_accounts(tram: Stack, gateway):
    made = gateway.sub_accounts.create(
        name="Shop", external_ref="42", spend_cap_cents=500, rate_limit_rpm=60, default_tag="shop"
    )
    shown = {name: value for name, value in made.items() if name != "scoped_key"}
    assert shown.items() >= {"name": "Shop", "external_ref": "42", "spend_cap_cents": 500, "rate_limit_rpm": 60}.items()
    assert (made["default_tag"], made["status"], made["spent_cents"]) == ("shop", "active", 0)
    assert gateway.sub_accounts.get(made["id"]) == shown, "the key is shown once"
    assert shown in gateway.sub_accounts.list()
    with tram.client(made["scoped_key"]) as http:
        assert http.get("/v1/models").is_success
        assert gateway.sub_accounts.delete(made["id"])["deleted"]
        until(lambda: http.get("/v1/models").status_code == 401, FORGOTTEN_S)
    assert made["id"] not in {each["id"] for each in gateway.sub_accounts.list()}
    with pytest.raises(aigateway.AIgatewayError) as caught:
        gateway.sub_accounts.get(made["id"])
    assert (caught.value.status_code, caught.value.type) == (404, "not_found")


def test_aigateway_drives_a_sub_accounts_own_jobs_and_secret(tram: Stack, gateway, shop):
    mine = shop()
    with aigateway.AIgateway(api_key=mine.key, base_url=tram.url, tag="blue") as own:
        assert own.webhook_secret.get()["secret"] != gateway.webhook_secret.get()["secret"]
        old = own.webhook_secret.get()["secret"]
        assert own.webhook_secret.rotate()["secret"] != old
        job = own.jobs.wait(mine.submit("!tokens=3").json()["id"], timeout_seconds=60, poll_interval_seconds=0.1)
        assert job.status == "completed"
        with pytest.raises(aigateway.AIgatewayError) as caught:
            own.sub_accounts.create(name="below me")
        assert (caught.value.status_code, caught.value.type) == (403, "permission_error")
    with pytest.raises(aigateway.AIgatewayError) as caught:
        gateway.jobs.get(job.id)
    assert caught.value.status_code == 404, "a parent sees what is used, not what is said"
    assert job.id in {row["id"] for row in tram.http.get("/v1/usage/recent", params={"limit": 1000}).json()["data"]}


def test_whose_sub_account_it_is_not_finds_none(tram: Stack, shop):
    mine = shop()
    with tram.client(tram.command("accounts", "create", f"other-{uuid4().hex[:8]}")) as other:
        path = f"/v1/sub-accounts/{mine.id}"
        for answer in (
            other.get(path),
            other.delete(path),
            other.patch(path, json={"name": "x"}),
            other.post(f"{path}/keys/rotate", json={}),
        ):
            assert error(answer) == (404, "not_found", "not_found")
        assert other.get("/v1/sub-accounts").json()["data"] == []
        assert other.get("/v1/usage/recent").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "spend_cap_cents": -1}, "spend_cap_cents"),
        ({"name": "x", "rate_limit_rpm": 0}, "rate_limit_rpm"),
        ({"name": "x", "spend_cap_period": "week"}, "spend_cap_period"),
        ({"name": "x", "default_tag": "tag\n"}, "default_tag"),
        ({"name": "x", "allowed_models": []}, "allowed_models"),
        ({"name": "x", "credits": 5}, "credits"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tram: Stack, body, param):
    answer = tram.http.post("/v1/sub-accounts", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_change_takes_hold_and_null_takes_a_limit_away(tram: Stack, shop):
    mine = shop(max_parallel_requests=1, spend_cap_cents=7, allowed_models=["no-such-model"])
    assert error(mine.ask()) == (403, "permission_error", "model_not_allowed")
    path = f"/v1/sub-accounts/{mine.id}"
    changed = tram.http.patch(path, json={"allowed_models": None, "spend_cap_period": "total", "name": "new"}).json()
    assert (changed["allowed_models"], changed["name"], changed["max_parallel_requests"]) == (None, "new", 1)
    assert (changed["spend_cap_cents"], changed["spend_cap_period"]) == (7, "total")
    until(lambda: mine.ask().is_success, FORGOTTEN_S)
    assert tram.http.patch(path, json={"spend_cap_cents": None}).json()["spend_cap_cents"] is None
    assert tram.http.patch(path, json={"name": None}).status_code == 400


def test_a_rotated_key_lives_on_for_its_grace(tram: Stack, shop):
    mine = shop()
    rotated = tram.http.post(f"/v1/sub-accounts/{mine.id}/keys/rotate", json={"grace_period": 3600}).json()
    with tram.client(rotated["scoped_key"]) as new:
        assert new.get("/v1/models").is_success
        assert mine.http.get("/v1/models").is_success
        last = tram.http.post(f"/v1/sub-accounts/{mine.id}/keys/rotate", json={}).json()["scoped_key"]
        until(
            lambda: {mine.http.get("/v1/models").status_code, new.get("/v1/models").status_code} == {401}, FORGOTTEN_S
        )
    with tram.client(last) as newest:
        assert newest.get("/v1/models").is_success


def test_as_many_jobs_are_open_as_may_be_and_an_end_makes_room_at_once(tram: Stack, shop):
    mine, model = shop(max_parallel_requests=2), tram.chat("!tokens=1")["model"]
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: mine.submit(), range(8)))
    assert Counter(answer.status_code for answer in told) == {202: 2, 429: 6}
    refused = next(answer for answer in told if answer.status_code == 429)
    assert error(refused) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert 1 <= int(refused.headers["retry-after-ms"]) <= 120_000
    first, second = (answer.json()["id"] for answer in told if answer.status_code == 202)
    with pytest.raises(openai.RateLimitError):
        mine.openai.chat.completions.create(model=model, messages=said("!tokens=1"))
    tram.engine.wait(running=2)
    mine.cancel(first)
    mine.ended(first)
    assert all(mine.ask().status_code == 200 for _ in range(5)), "who hears of an end may ask again"
    mine.cancel(second)


def test_a_stream_frees_its_place_before_it_ends(tram: Stack, shop):
    mine = shop(max_parallel_requests=1)
    for _ in range(5):
        body = {"messages": said("!tokens=5"), "stream": True, **SHORT}
        with mine.http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, response.read()
            assert response.read().endswith(b"data: [DONE]\n\n")


def test_who_hangs_up_makes_room(tram: Stack, shop):
    mine = shop(max_parallel_requests=1)
    body = {"messages": said("!tokens=100 rate=10"), "stream": True}
    with mine.http.stream("POST", "/v1/chat/completions", json=body) as response:
        texts = response.iter_text()  # let go of, it would hang up
        next(texts)
        assert mine.ask().status_code == 429
    until(lambda: mine.ask().status_code == 200, 10)


def test_a_rate_is_kept_told_and_joined_by_repeats_for_nothing(tram: Stack, shop):
    mine = shop(rate_limit_rpm=2, rate_limit_tpm=100_000)
    key, body = {"idempotency-key": uuid4().hex}, {"messages": said("!tokens=3"), **SHORT}
    first = mine.http.post("/v1/chat/completions", json=body, headers=key)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] == "30s"
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000
    assert mine.ask().headers["x-ratelimit-remaining-requests"] == "0"
    refused = mine.ask()
    assert error(refused) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    again = mine.http.post("/v1/chat/completions", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert "x-ratelimit-limit-requests" not in tram.http.get("/v1/models").headers


def test_a_replay_waits_for_its_accounts_limits(tram: Stack, shop):
    mine = shop(rate_limit_rpm=2)
    source = mine.ask().json()["id"]
    made = mine.http.post("/v1/replays", json={"source_request_id": source, "repeats": 2})
    assert made.status_code == 202, made.text
    path = made.headers["location"]
    until(lambda: mine.http.get(path).json()["request_counts"]["completed"] == 1, 20)
    states = [turn["state"] for turn in mine.http.get(path).json()["turns"]]
    assert states == ["completed", "waiting"]
    assert error(mine.ask())[:2] == (429, "rate_limit_error")
    mine.http.post(f"{path}/cancel").raise_for_status()
    until(lambda: mine.http.get(path).json()["status"] == "cancelled", 20)


def test_the_books_agree_with_the_answers_for_every_ending(priced: Stack, shop):
    mine = shop(default_tag="plain")
    ids = {"completed": [mine.submit("!tokens=7").json()["id"] for _ in range(3)]}
    tagged = mine.http.post("/v1/jobs", json={"messages": said("!tokens=9")}, headers={"x-aig-tag": "blue"}).json()[
        "id"
    ]
    ids["failed"] = [mine.submit("!status=400").json()["id"]]
    running = mine.submit("!tokens=20 rate=20").json()["id"]
    priced.engine.wait(running=1)
    until(lambda: mine.http.get(f"/v1/jobs/{running}").json()["timing"]["queued_ms"] is not None, 20)
    mine.cancel(running)
    ids["cancelled"] = [running]
    ids["expired"] = [mine.submit("!tokens=20 rate=2", deadline=deadline_in(3)).json()["id"]]
    ids["completed"].append(tagged)
    jobs = {job_id: mine.ended(job_id) for found in ids.values() for job_id in found}
    assert {job["id"]: job["state"] for job in jobs.values()} == {
        each: state for state, found in ids.items() for each in found
    }
    recent = {row["id"]: row for row in mine.http.get("/v1/usage/recent").json()["data"]}
    assert recent.keys() == jobs.keys()
    for job in jobs.values():
        usage, row = job["usage"], recent[job["id"]]
        exact = usage["prompt_tokens"] * 0.35 + usage["completion_tokens"] * 0.55
        assert usage["cost"] == pytest.approx(exact / 1e6, abs=0.5000001e-6)
        names = ("prompt_tokens", "completion_tokens", "cost")
        assert [row[name] for name in names] == [usage[name] for name in names]
        assert (row["state"], row["tag"]) == (job["state"], "blue" if job["id"] == tagged else "plain")
    assert jobs[tagged]["usage"]["completion_tokens"] == 9
    micros = sum(round(row["cost"] * 1e6) for row in recent.values())
    by_tag = {row["label"]: row for row in mine.http.get("/v1/usage/by-tag").json()["data"]}
    assert {tag: row["requests"] for tag, row in by_tag.items()} == {"plain": len(jobs) - 1, "blue": 1}
    assert sum(round(row["cost"] * 1e6) for row in by_tag.values()) == micros
    (row,) = [row for row in priced.http.get("/v1/usage/by-sub-account").json()["data"] if row["id"] == mine.id]
    assert (row["requests"], round(row["cost_cents"] * CENT)) == (len(jobs), micros)
    assert round(mine.view()["spent_cents"] * CENT) == micros
    assert round(mine.http.get("/v1/balance").json()["spent_cents"] * CENT) == micros
    assert mine.http.get("/v1/usage/by-tag", params={"month": "2001-01"}).json()["data"] == []
    assert error(mine.http.get("/v1/usage/by-sub-account"))[:2] == (403, "permission_error")
    assert mine.http.get("/v1/usage/by-tag", params={"month": "2001-13"}).status_code == 400
    assert mine.http.get("/v1/models", headers={"x-aig-tag": "x" * 101}).status_code == 400


def test_a_cap_is_never_overrun_however_many_ask_at_once(priced: Stack, shop):
    """A request for 1,000 tokens may cost 950 micro-dollars and more: of 10,000 not all of 40 are covered."""
    mine = shop(spend_cap_cents=1)
    wanted = {"max_completion_tokens": 1000}
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: mine.ask("!tokens=1000", **wanted), range(40)))
    statuses = Counter(answer.status_code for answer in told)
    assert statuses.keys() == {200, 402}
    refused = next(answer for answer in told if answer.status_code == 402)
    assert error(refused) == (402, "budget_exceeded", "budget_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    while mine.ask("!tokens=1000", **wanted).status_code == 200:
        pass
    spent = mine.view()["spent_cents"]
    assert 0.9 < spent <= 1
    assert spent == pytest.approx(
        mine.view()["spend_cap_cents"] - mine.http.get("/v1/balance").json()["remaining_cents"]
    )
    with pytest.raises(openai.APIStatusError) as caught:
        mine.openai.chat.completions.create(model="tram-demo", messages=said("!tokens=1"))
    assert (caught.value.status_code, caught.value.type) == (402, "budget_exceeded")


def test_credits_of_the_top_are_drawn_on_from_below_and_can_be_paid_in(priced: Stack):
    name = f"payer-{uuid4().hex[:8]}"
    key = priced.command("accounts", "create", name)
    priced.command("accounts", "credit", "--account", name, "0.002")
    with priced.client(key) as payer, ExitStack() as held:
        made = payer.post("/v1/sub-accounts", json={"name": "below"}).json()
        below = held.enter_context(priced.client(made["scoped_key"]))
        body = {"messages": said("!tokens=1000"), "max_completion_tokens": 1000}
        assert below.post("/v1/chat/completions", json=body).status_code == 200
        second = [one.post("/v1/chat/completions", json=body) for one in (below, payer, below)]
        assert error(second[-1]) == (402, "insufficient_credits", "insufficient_credits")
        told = payer.get("/v1/balance").json()
        assert told["credit_cents"] == 0.2
        assert told["balance_cents"] == pytest.approx(0.2 - told["spent_cents"])
        assert "left" in priced.command("accounts", "credit", "--account", name, "25.00")
        until(lambda: below.post("/v1/chat/completions", json=body).status_code == 200, FORGOTTEN_S)
        assert below.get("/v1/balance").json()["credit_cents"] is None


def test_an_operator_sets_limits_that_bind_all_below_together(tram: Stack):
    name = f"bound-{uuid4().hex[:8]}"
    key = tram.command("accounts", "create", name)
    tram.command("accounts", "limits", "--account", name, "--parallel", "1", "--month-cap", "10", "--model", "none")
    assert '"max_parallel_requests": 1' in tram.command("accounts", "show", "--account", name)
    assert name in tram.command("accounts", "list")
    with tram.client(key) as top, ExitStack() as held:
        keys = [top.post("/v1/sub-accounts", json={"name": "s"}).json()["scoped_key"] for _ in range(2)]
        one, other = (held.enter_context(tram.client(each)) for each in keys)
        hang = {"messages": said("!hang"), **SHORT}
        job = one.post("/v1/jobs", json=hang).json()["id"]
        assert [each.post("/v1/jobs", json=hang).status_code for each in (one, other, top)] == [429, 429, 429]
        one.delete(f"/v1/jobs/{job}")
        tram.command("accounts", "limits", "--account", name, "--parallel", "none")
        assert '"max_parallel_requests": null' in tram.command("accounts", "show", "--account", name)
