"""Is everything that cannot be right refused in words, with the place at fault, and never with a 500 or an error in the log?"""

import gzip
import http.client
import json
import socket
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.conftest import KEY, Api

USER = {"role": "user", "content": "Hello!"}
ASKED = {"messages": [USER]}
FUNCTION = {"type": "function", "function": {"name": "f"}}
NAMED_OTHER = {"type": "function", "function": {"name": "g"}}
STRICT = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}
SELF = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}
BEGUN = {"role": "assistant", "content": "The"}
CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
MOST = 4 << 20
KINDS = {
    400: {"invalid_request_error"},
    401: {"authentication_error"},
    404: {"not_found"},
    405: {"invalid_request_error"},
    409: {"conflict_error"},
    413: {"invalid_request_error"},
    422: {"invalid_request_error"},
    503: {"service_unavailable"},
}
ODD = ("nope", "%00", "job_%00", "chatcmpl-%00", "%ff", "%ED%A0%80", "%F0%9F%A6%84", "a" * 10_000, "'%20OR%201=1--")


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error(api: Api) -> Iterator[None]:
    before = api.log.stat().st_size
    yield
    said = api.log.read_bytes()[before:].decode()
    assert '"error"' not in said, said
    assert "Traceback" not in said, said


def refused(answer: httpx2.Response, status: int, param: str | None, code: str | None = None) -> str:
    """The message of an error that is whole."""
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in KINDS[status]
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert error["message"]
    return error["message"]


def chats(role: str = "user", **message: object) -> dict:
    return {"messages": [{"role": role, **message}]}


def with_part(**part: object) -> dict:
    return chats(content=[part])


BODIES = {
    "not JSON": (b"{not json", "body"),
    "nothing": (b"", "body"),
    "an array": (b"[]", "body"),
    "null": (b"null", "body"),
    "a string": (b'"x"', "body"),
    "cut off": (b'{"messages":[{"role":', "body"),
    "two documents": (b"{} {}", "body"),
    "a comment": (b"{/*x*/}", "body"),
    "invalid UTF-8": (b'{"messages":[{"role":"user","content":"\xff"}]}', "body"),
    "UTF-16": (json.dumps(ASKED).encode("utf-16"), "body"),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(ASKED).encode(), "body"),
    "gzip": (gzip.compress(json.dumps(ASKED).encode()), "body"),
    "half a surrogate pair": (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "messages[0].content"),
    "NaN": (b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}', "body"),
    "Infinity": (b'{"messages":[{"role":"user","content":"x"}],"temperature":-Infinity}', "body"),
    "1e999": (b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}', "body"),
    "arrays 10^5 deep": (b"[" * 100_000 + b"]" * 100_000, "body"),
    "objects 10^5 deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "body"),
    "300 deep": (b'{"metadata":' + b'{"a":' * 300 + b"1" + b"}" * 301, "body"),
    "a key twice": (b'{"messages":[{"role":"user","content":"x"}],"messages":"x"}', "messages"),
    "a number out of range": (b'{"messages":[{"role":"user","content":"x"}],"seed":%d}' % 10**30, "seed"),
    "an integer that a schema would lose": (
        b'{"messages":[{"role":"user","content":"x"}],"guided_json":{"maximum":18446744073709551616}}',
        "guided_json.maximum",
    ),
    "10^5 messages": (b'{"messages":[' + b",".join([b'{"role":"user","content":""}'] * 100_000) + b"]}", "messages"),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/jobs"])
@pytest.mark.parametrize("name", BODIES)
def test_what_is_no_request_at_all(api: Api, path: str, name: str):
    body, param = BODIES[name]
    message = refused(api.http.post(path, content=body), 400, param)
    assert name != "10^5 messages" or ("4096" in message and "100000" in message)


FIELDS = [
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [USER, USER, {"role": "robot", "content": "x"}]}, "messages[2].role"),
    (chats(["user"], content="x"), "messages[0].role"),
    (chats(), "messages[0].content"),
    (chats(content=None), "messages[0].content"),
    (chats(content=5), "messages[0].content"),
    (chats(content=[]), "messages[0].content"),
    (chats(content="a\0b"), "messages[0].content"),
    (chats(content="x", extra=1), "messages[0].extra"),
    (with_part(type="audio"), "messages[0].content[0].type"),
    (with_part(type="text"), "messages[0].content[0].text"),
    (with_part(type="text", text=5), "messages[0].content[0].text"),
    (with_part(type="image_url", image_url={"url": "data:image/png;base64,AAAA"}), "messages[0].content[0]"),
    (chats("tool", content="x"), "messages[0].tool_call_id"),
    (chats("assistant"), "messages[0]"),
    (chats("assistant", tool_calls=[]), "messages[0].tool_calls"),
    (chats("assistant", tool_calls=[{"id": "x", "type": "function"}]), "messages[0].tool_calls[0].function"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 5.1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 99}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": "2"}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 100_000}, "max_tokens"),
    ({"max_completion_tokens": 10**18}, "max_completion_tokens"),
    ({"stop": 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": [5]}, "stop[0]"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
    ({"tools": []}, "tools"),
    ({"tools": [FUNCTION] * 129}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "some", "tools": [FUNCTION]}, "tool_choice"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a": "v" * 513}}, "metadata.a"),
    ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"metadata": {"a\0": "b"}}, "metadata"),
    ({"metadata": {"a": "\0"}}, "metadata.a"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools[1].function.name"),
    ({"tools": [FUNCTION], "tool_choice": NAMED_OTHER}, "tool_choice.function.name"),
    ({"tools": [FUNCTION], "regex": "a"}, "regex"),
    ({"tools": [STRICT]}, "tools[0].function.parameters"),
    ({"guided_json": "x"}, "guided_json"),
    ({"guided_json": {"$ref": "#"}}, "guided_json"),
    ({"guided_json": {"properties": {"a": {"type": "varchar"}}}}, "guided_json.properties.a"),
    ({"guided_json": {}, "regex": "a"}, "regex"),
    ({"guided_json": {"enum": list(range(1001))}}, "guided_json"),
    ({"response_format": SELF}, "response_format.json_schema.schema"),
    ({"response_format": SELF, "guided_json": {}}, "guided_json"),
    ({"regex": "(.*.*)*"}, "regex"),
    ({"regex": "(" * 100_000}, "regex"),
    ({"regex": ""}, "regex"),
    ({"ebnf": "root ::= x"}, "ebnf"),
    ({"logit_bias": {"x": 5}}, "logit_bias.x"),
    ({"logit_bias": {"1": 500}}, "logit_bias.1"),
    ({"logit_bias": {str(number): 0 for number in range(301)}}, "logit_bias"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"continue_final_message": True}, "messages[0].role"),
    ({"messages": [USER, BEGUN]}, "messages[1].role"),
    ({"messages": [BEGUN], "continue_final_message": True}, "messages[0].role"),
    ({"messages": [USER, CALLED]}, "messages[1].tool_calls"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"modalities": ["audio"]}, "modalities[0]"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"input_ids": [1]}, "input_ids"),
    ({"": 1}, "body"),
    ({"rid": "job_"}, "rid"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"model": 5}, "model"),
    ({"model": "m" * 100_000}, "model"),
    ({"conversation_id": 5}, "conversation_id"),
    ({"user": 5}, "user"),
    ({"store": "no"}, "store"),
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/jobs"])
@pytest.mark.parametrize(("fields", "param"), FIELDS, ids=[str(fields)[:40] for fields, _ in FIELDS])
def test_a_field_that_cannot_be_right_is_named(api: Api, path: str, fields: dict, param: str):
    message = refused(api.http.post(path, json=ASKED | fields), 400, param)
    assert len(message) < 1000, "what was sent is not sent back whole"


JOB_FIELDS = [
    ({"stream": True}, "stream"),
    ({"deadline": 5}, "deadline"),
    ({"deadline": -1}, "deadline"),
    ({"deadline": 1.5}, "deadline"),
    ({"deadline": True}, "deadline"),
    ({"deadline": "soon"}, "deadline"),
    ({"deadline": 10**15}, "deadline"),
    ({"deadline": 10**30}, "deadline"),
    ({"webhook_url": 5}, "webhook_url"),
    ({"webhook_url": "x"}, "webhook_url"),
    ({"webhook_url": "ftp://example.com/"}, "webhook_url"),
    ({"webhook_url": "http://"}, "webhook_url"),
    ({"webhook_url": "http://[::1"}, "webhook_url"),
    ({"webhook_url": "http://[::1]@"}, "webhook_url"),
    ({"webhook_url": "http://exa mple.com/"}, "webhook_url"),
    ({"webhook_url": "http://example.com:99999/"}, "webhook_url"),
    ({"webhook_url": "http://user:word@example.com/"}, "webhook_url"),
    ({"webhook_url": "http://example.com/" + "a" * 3000}, "webhook_url"),
    ({"webhook_url": "http://169.254.169.254/latest"}, "webhook_url"),
    ({"webhook_url": "http://10.0.0.1/"}, "webhook_url"),
]


@pytest.mark.parametrize(("fields", "param"), JOB_FIELDS, ids=[str(fields)[:40] for fields, _ in JOB_FIELDS])
def test_what_only_a_job_can_get_wrong(api: Api, fields: dict, param: str):
    refused(api.http.post("/v1/jobs", json=ASKED | fields), 400, param)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_told_both_numbers(api: Api, stream):
    body = {"messages": [{"role": "user", "content": "word " * 20_000}], "stream": stream}
    message = refused(api.http.post("/v1/chat/completions", json=body), 400, "messages", "context_length_exceeded")
    assert "8192 tokens" in message
    assert "have 40003 tokens" in message


def test_what_is_not_there_is_named(api: Api):
    post = api.http.post
    known = "casperhansen/mistral-small-24b-instruct-2501-awq"
    assert "gpt-9" in refused(post("/v1/jobs", json=ASKED | {"model": "gpt-9"}), 404, "model", "model_not_found")
    refused(post("/v1/chat/completions", json=ASKED | {"model": known}), 503, "model", "no_worker")
    refused(post("/v1/jobs", json=ASKED | {"conversation_id": "conv_x"}), 404, "conversation_id")
    refused(post("/v1/replays", json={"source_request_id": "job_x"}), 404, "source_request_id")
    refused(post("/v1/replays", json={"source_conversation_id": "conv_x"}), 404, "source_conversation_id")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "source_request_id"),
        ({"source_request_id": "a", "source_conversation_id": "b"}, "source_request_id"),
        ({"source_request_id": 5}, "source_request_id"),
        ({"source_request_id": "a\0"}, "source_request_id"),
        ({"source_request_id": "a", "overrides": 5}, "overrides"),
        ({"source_request_id": "a", "more": 5}, "more"),
    ],
    ids=str,
)
def test_a_replay_of_nothing(api: Api, body, param):
    refused(api.http.post("/v1/replays", json=body), 400, param)


def test_a_body_over_the_limit(api: Api):
    told = refused(api.http.post("/v1/jobs", content=b"a" * (MOST + 1)), 413, "body", "request_too_large")
    assert str(MOST) in told
    pieces = (b"a" * 65_536 for _ in range(100))
    refused(api.http.post("/v1/jobs", content=pieces), 413, "body", "request_too_large")


def test_a_body_that_breaks_off(api: Api):
    for begin in (b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n20\r\n"):
        with _connected(api) as line:
            line.sendall(_head(b"POST /v1/jobs") + begin + b'{"messages"')
            line.shutdown(socket.SHUT_WR)
            assert line.recv(65_536) == b""
    assert api.http.get("/health").is_success


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic eDp4", "Bearer sk-nope", "Bearer " + "k" * 60_000, "Bearer \xff", "Bearer a b"],
)
def test_who_has_no_key_gets_nothing(api: Api, authorization: str):
    headers = {"Authorization": authorization.encode("latin-1")}
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/jobs"), ("DELETE", f"/v1/jobs/{api.job_id}")):
        refused(api.http.request(method, path, headers=headers), 401, "Authorization")


@pytest.mark.parametrize("odd", ODD, ids=[odd[:20] for odd in ODD])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/{}"),
        ("GET", "/v1/jobs/{}/events"),
        ("DELETE", "/v1/jobs/{}"),
        ("GET", "/v1/conversations/{}"),
        ("GET", "/v1/replays/{}"),
        ("GET", "/v1/webhook_deliveries/{}"),
        ("GET", "/v1/models/{}"),
        ("GET", "/v1/chat/completions/{}"),
        ("DELETE", "/v1/chat/completions/{}"),
        ("GET", "/v1/files/signed/{}/result.json?expires=1&signature=x"),
    ],
)
def test_an_id_of_nothing(api: Api, method: str, path: str, odd: str):
    answer = api.http.request(method, path.format(odd))
    if "%00" in odd:
        refused(answer, 400, "path")
    else:
        refused(answer, 404, answer.json()["error"]["param"])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("state=weird", "state"),
        ("after=" + "z" * 65, "after"),
        ("after=%00", "after"),
        ("model=%00", "model"),
        ("model=" + "m" * 201, "model"),
        ("created_after=x", "created_after"),
        ("created_after=-1", "created_after"),
        (f"created_after={10**30}", "created_after"),
        (f"created_before={2**62}", "created_before"),
        ("metadata[a]=%00", "metadata[a]"),
        ("metadata[a%00]=1", "metadata[a]"),
        ("&".join(f"metadata[{number}]=1" for number in range(2000)), "metadata"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_query_that_cannot_be_right(api: Api, query: str, param: str):
    refused(api.http.get(f"/v1/jobs?{query}"), 400, param)


@pytest.mark.parametrize("key", ["", '"', "'", "$", "a.b", "\\", "0", "a%22b", "%ED%A0%80", "%F0%9F%A6%84", "]["])
def test_metadata_may_have_any_name(api: Api, key: str):
    assert api.http.get(f"/v1/jobs?metadata[{key}]=x").json()["data"] == []


@pytest.mark.parametrize(
    "last", ["zz", "1", "1-", "-1", "1-1-1", "999999999999-1", "1-" + "9" * 20, "1-\u0663", "1-1\0"]
)
def test_an_event_id_that_was_never_sent(api: Api, last: str):
    answer = api.http.get(f"/v1/jobs/{api.job_id}/events", params={"last_event_id": last})
    refused(answer, 400, "last_event_id" if "\0" in last else "Last-Event-ID")


@pytest.mark.parametrize("number", [-1, 10**15, 2**64, 10**30, "x"])
def test_a_number_that_no_chunk_has(api: Api, number: object):
    """One that Redis does not take would stop every stream that the process reads."""
    path = f"/v1/chat/completions/chatcmpl-{api.job_id.removeprefix('job_')}"
    answer = api.http.get(path, params={"stream": True, "starting_after": number})
    refused(answer, 400, "starting_after")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "HEAD"])
def test_a_method_that_is_not_there(api: Api, method: str):
    answer = api.http.request(method, "/v1/jobs")
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (405, b"")
    else:
        refused(answer, 405, None, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/jobs/", "/v1", "/", "/v1/jobs/x/y", "//v1/jobs", "/v1/../v1/jobs"]
)
def test_an_endpoint_that_is_not_there(api: Api, path: str):
    with _connected(api) as line:
        line.sendall(_head(b"GET " + path.encode()) + b"\r\n")
        status, body = _answer(line)
    assert (status, json.loads(body)["error"]["code"]) == (404, "unknown_endpoint")


@pytest.mark.parametrize(
    "headers",
    [b"X-A: " + b"a" * 100_000, b"\r\n".join(b"X-%d: a" % number for number in range(20_000))],
    ids=["long", "many"],
)
def test_headers_without_end(api: Api, headers: bytes):
    with _connected(api) as line:
        line.sendall(_head(b"GET /v1/jobs") + headers + b"\r\n\r\n")
        status, body = _answer(line)
    assert (status, json.loads(body)["error"]["param"]) == (413, "headers")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /v1/jobs HTTP/9.1\r\n\r\n",
        b"GET /v1/jobs/\x00 HTTP/1.1\r\n\r\n",
        b"GET /v1/jobs?" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:60]),
)
def test_what_is_no_http(api: Api, sent: bytes):
    """Refused by the server before it is anybody's request, and in the envelope all the same."""
    with _connected(api) as line:
        line.sendall(sent)
        status, body = _answer(line)
    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_http")
    assert set(error) == {"message", "type", "param", "code"}
    assert api.http.get("/health").is_success


def test_another_request_under_the_same_key(api: Api):
    headers = {"Idempotency-Key": "once"}
    assert api.http.post("/v1/jobs", json=ASKED, headers=headers).status_code == 202
    refused(api.http.post("/v1/jobs", json=ASKED | {"n": 2}, headers=headers), 422, "Idempotency-Key")
    for key in ("", "k" * 256):
        refused(api.http.post("/v1/jobs", json=ASKED, headers={"Idempotency-Key": key}), 400, "Idempotency-Key")


def _connected(api: Api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=20)


def _head(line: bytes) -> bytes:
    return line + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"


def _answer(line: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(line)
    response.begin()
    return response.status, response.read()
