"""The table of errors, row by row, as openai-python's exception classes and its rules for trying again.

A row says how the error comes about; what the client must make of it holds for all rows.  Those about money need a model that costs
some.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import openai
import pytest

from tests.flow.stack import Stack, deadline_in, said

ABSENT = "mistral-small-24b-instruct-2501-awq"
"""Known, and served by nobody here."""
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
RETRIES = 1
WAIT = {429, 503}
NEVER = {402, 403, 409, 504}
"""Where nothing changes by asking again, though the SDK might."""


@dataclass(frozen=True)
class Row:
    status: int
    word: str
    """Its `type`."""
    code: str
    kind: type[openai.APIStatusError]
    body: dict[str, Any] = field(default_factory=dict)
    """Changes a chat request that would be answered."""
    provoke: Callable[[openai.OpenAI, Stack], object] | None = None
    """In place of a chat request."""
    retried: bool = False
    """By the SDK, which goes by the status where no header says otherwise."""

    def __str__(self) -> str:
        return f"{self.status}-{self.code}"


def job_of_nobody(client: openai.OpenAI, _: Stack) -> object:
    return client.get("/jobs/job_00000000000000000000000000", cast_to=object)


def delete_a_running_one(client: openai.OpenAI, tram: Stack) -> object:
    return client.chat.completions.delete(tram.submit("!hang"))


def come_back_to(client: openai.OpenAI, tram: Stack, job_id: str) -> object:
    tram.ended(job_id)
    return client.get(f"/chat/completions/{job_id}?stream=true", cast_to=object)


def read_a_cancelled_one(client: openai.OpenAI, tram: Stack) -> object:
    job_id = tram.submit("!hang")
    tram.http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    return come_back_to(client, tram, job_id)


def read_an_expired_one(client: openai.OpenAI, tram: Stack) -> object:
    return come_back_to(client, tram, tram.submit("!hang", deadline=deadline_in(3)))


def use_a_key_twice(client: openai.OpenAI, tram: Stack) -> object:
    key = {"Idempotency-Key": tram.submit("!tokens=1")}
    ask(client, extra_headers=key)
    return ask(client, extra_headers=key, seed=1)


def use_a_wrong_key(client: openai.OpenAI, _: Stack) -> object:
    return ask(client.with_options(api_key="sk-nobody"))


def use_no_key(client: openai.OpenAI, _: Stack) -> object:
    return ask(client, extra_headers={"Authorization": openai.Omit()})


def limited(tram: Stack, **limits: Any) -> str:
    """The key of a new sub-account."""
    made = tram.http.post("/v1/sub-accounts", json={"name": uuid4().hex, **limits})
    return made.raise_for_status().json()["scoped_key"]


def use_a_model_that_is_not_allowed(client: openai.OpenAI, tram: Stack) -> object:
    return ask(client.with_options(api_key=limited(tram, allowed_models=["tram-demo"])))


def use_more_than_one_line(client: openai.OpenAI, tram: Stack) -> object:
    key = limited(tram, max_parallel_requests=1)
    with tram.client(key) as http:
        job = http.post("/v1/jobs", json={"messages": said("!hang")}).raise_for_status().json()
        try:
            return ask(client.with_options(api_key=key))
        finally:
            http.delete(f"/v1/jobs/{job['id']}").raise_for_status()


def spend_more_than_the_cap(client: openai.OpenAI, tram: Stack) -> object:
    return ask(client.with_options(api_key=limited(tram, spend_cap_cents=0)), model="tram-demo")


def use_up_the_credits(client: openai.OpenAI, tram: Stack) -> object:
    name = uuid4().hex
    key = tram.command("accounts", "create", name)
    tram.command("accounts", "credit", "--account", name, "0.000001")
    return ask(client.with_options(api_key=key), model="tram-demo")


BAD = ("invalid_request_error", openai.BadRequestError)
ROWS = [
    Row(400, BAD[0], "invalid_request", BAD[1], {"temperature": 9}),
    Row(400, BAD[0], "context_length_exceeded", BAD[1], {"model": "tram-demo", "messages": said("word " * 20_000)}),
    Row(400, BAD[0], "unsupported_content_type", BAD[1], {"messages": [{"role": "user", "content": [IMAGE]}]}),
    Row(400, BAD[0], "unsupported_parameter", BAD[1], {"extra_body": {"logit": 1}}),
    Row(401, "authentication_error", "invalid_api_key", openai.AuthenticationError, provoke=use_a_wrong_key),
    Row(401, "authentication_error", "missing_api_key", openai.AuthenticationError, provoke=use_no_key),
    Row(
        403,
        "permission_error",
        "model_not_allowed",
        openai.PermissionDeniedError,
        provoke=use_a_model_that_is_not_allowed,
    ),
    Row(404, "not_found", "model_not_found", openai.NotFoundError, {"model": "gpt-9"}),
    Row(404, "not_found", "job_not_found", openai.NotFoundError, provoke=job_of_nobody),
    Row(409, "conflict_error", "still_running", openai.ConflictError, provoke=delete_a_running_one),
    Row(409, "conflict_error", "cancelled", openai.ConflictError, provoke=read_a_cancelled_one),
    Row(413, BAD[0], "request_too_large", openai.APIStatusError, {"messages": said("a" * (5 << 20))}),
    Row(422, BAD[0], "idempotency_key_reused", openai.UnprocessableEntityError, provoke=use_a_key_twice),
    Row(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        openai.RateLimitError,
        provoke=use_more_than_one_line,
        retried=True,
    ),
    Row(
        500, "server_error", "engine_error", openai.InternalServerError, {"messages": said("!status=500")}, retried=True
    ),
    Row(503, "service_unavailable", "no_worker", openai.InternalServerError, {"model": ABSENT}, retried=True),
    Row(504, "timeout_error", "deadline_exceeded", openai.InternalServerError, provoke=read_an_expired_one),
]


MONEY = [
    Row(402, "budget_exceeded", "budget_exceeded", openai.APIStatusError, provoke=spend_more_than_the_cap),
    Row(402, "insufficient_credits", "insufficient_credits", openai.APIStatusError, provoke=use_up_the_credits),
]


def ask(client: openai.OpenAI, **fields: Any) -> object:
    return client.chat.completions.create(**{"model": "tiny", "messages": said("!tokens=1"), **fields})


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_error_is_what_the_sdk_takes_it_for(tram: Stack, row: Row):
    check(tram, row)


@pytest.mark.parametrize("row", MONEY, ids=str)
def test_so_is_one_about_money(priced: Stack, row: Row):
    check(priced, row)


def check(tram: Stack, row: Row) -> None:
    with (
        openai.OpenAI(base_url=f"{tram.url}/v1", api_key=tram.key, max_retries=RETRIES) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        row.provoke(client, tram) if row.provoke else ask(client, **row.body)
    error = caught.value
    assert type(error) is row.kind
    assert (error.status_code, error.type, error.code) == (row.status, row.word, row.code)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.body["message"]
    assert error.request_id == error.response.headers["x-request-id"]
    assert int(error.response.request.headers["x-stainless-retry-count"]) == (RETRIES if row.retried else 0)
    check_advice(error.response.headers, row.status)


def check_advice(headers: httpx2.Headers, status: int) -> None:
    """How long to wait, in both of its spellings, where waiting helps."""
    assert ("retry-after" in headers) == (status in WAIT)
    if status in WAIT:
        wait_ms = int(headers["retry-after-ms"])
        assert 0 < wait_ms <= 120_000
        assert int(headers["retry-after"]) == math.ceil(wait_ms / 1000)
    assert headers.get("x-should-retry") == ("false" if status in NEVER else None)
