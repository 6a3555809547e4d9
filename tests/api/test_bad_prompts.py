"""Is what cannot be right refused by name at the doors that take a prompt, each in its own envelope?"""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.conftest import Api

TEXTS = "/v1/completions"
MODEL = "tram-demo"
NATIVE = f"/client/v4/accounts/anybody/ai/run/{MODEL}"
ASKED = {"prompt": "Hello"}
USER = {"role": "user", "content": "Hello!"}
FUNCTION = {"name": "f"}


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error(api: Api) -> Iterator[None]:
    before = api.log.stat().st_size
    yield
    said = api.log.read_bytes()[before:].decode()
    assert '"error"' not in said, said
    assert "Traceback" not in said, said


def refused(answer: httpx2.Response, param: str, status: int = 400) -> None:
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert (error["param"], bool(error["message"])) == (param, True)


def refused_natively(answer: httpx2.Response, word: str, status: int = 400, code: int = 5004) -> None:
    """Its errors have no place for a parameter's name, so the message begins with it."""
    assert answer.status_code == status, answer.text[:300]
    told = answer.json()
    assert set(told) == {"result", "success", "errors", "messages"}
    assert (told["result"], told["success"], told["messages"]) == (None, False, [])
    (error,) = told["errors"]
    assert set(error) == {"code", "message"}
    assert error["code"] == code
    assert word in error["message"]
    assert len(error["message"]) < 1000


COMMON = [
    ({"prompt": 5}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"prompt": {}}, "prompt"),
    ({"raw": "yes"}, "raw"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 100_000}, "max_tokens"),
    ({"temperature": 6}, "temperature"),
    ({"seed": "x"}, "seed"),
    ({"stop": [""]}, "stop[0]"),
    ({"stream": 1}, "stream"),
    ({"guided_json": {"$ref": "#"}}, "guided_json"),
    ({"regex": "(.*.*)*"}, "regex"),
    ({"temprature": 1}, "temprature"),
    ({"input_ids": [1]}, "input_ids"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"lora": "x"}, "lora"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"webhook_url": "https://example.com/"}, "webhook_url"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"background": True}, "background"),
    ({"function_call": "auto"}, "function_call"),
]
OF_TEXTS = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": [""]}, "prompt"),
    ({"prompt": [1, 2]}, "prompt"),
    ({"prompt": [[1, 2]]}, "prompt"),
    ({"messages": [USER]}, "messages"),
    ({"model": 5}, "model"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"best_of": 2}, "best_of"),
    ({"suffix": "x"}, "suffix"),
    ({"n": 17}, "n"),
    ({"echo": "x"}, "echo"),
    ({"echo": True, "raw": False}, "echo"),
    ({"tools": [{"type": "function", "function": FUNCTION}]}, "tools"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"functions": [FUNCTION]}, "functions"),
]
OF_NATIVE = [
    ({"prompt": None}, "prompt"),
    ({"messages": [USER]}, "prompt"),
    ({"prompt": None, "messages": [USER], "raw": True}, "raw"),
    ({"prompt": None, "messages": [{"role": "robot"}]}, "messages[0].role"),
    ({"prompt": ["a"]}, "prompt"),
    ({"model": MODEL}, "model"),
    ({"n": 1}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"echo": True}, "echo"),
    ({"functions": []}, "functions"),
    ({"functions": [{"name": "a b"}]}, "functions[0].name"),
    ({"functions": [FUNCTION | {"code": "return 1"}]}, "functions[0].code"),
    ({"functions": [FUNCTION], "tools": [FUNCTION]}, "functions"),
    ({"functions": [FUNCTION], "raw": True}, "tools"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools[1].function.name"),
    ({"tools": {}}, "tools"),
    ({"response_format": {"type": "json_schema", "json_schema": {"$ref": "#"}}}, "response_format.json_schema.schema"),
    ({"response_format": "json"}, "response_format"),
    ({"requests": [ASKED]}, "prompt"),
    ({"request_id": "x"}, "prompt"),
]


@pytest.mark.parametrize(("fields", "param"), COMMON + OF_TEXTS, ids=str)
def test_a_text_that_cannot_be_completed(api: Api, fields: dict, param: str):
    refused(api.http.post(TEXTS, json=ASKED | fields), param)


@pytest.mark.parametrize(("fields", "param"), COMMON + OF_NATIVE, ids=str)
def test_a_native_question_that_cannot_be_asked(api: Api, fields: dict, param: str):
    refused_natively(api.http.post(NATIVE, json=ASKED | fields), param)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/jobs"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [USER, USER], "raw": True}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}], "raw": True}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "raw": True}, "messages"),
        ({"messages": [{"role": "user", "content": ""}], "raw": True}, "messages[0].content"),
        ({"messages": [USER], "raw": True, "tools": [{"type": "function", "function": FUNCTION}]}, "tools"),
        ({"messages": [USER], "echo": True}, "echo"),
        ({"messages": [USER], "prompt": "x"}, "prompt"),
    ],
    ids=str,
)
def test_a_chat_is_raw_only_as_one_prompt(api: Api, path: str, fields: dict, param: str):
    refused(api.http.post(path, json=fields), param)


BATCHES = [
    ({"requests": []}, "requests"),
    ({"requests": {}}, "requests"),
    ({"requests": ["x"]}, "requests[0]"),
    ({"requests": [ASKED] * 1001}, "requests"),
    ({"requests": [ASKED, {}]}, "requests[1]: prompt"),
    ({"requests": [ASKED, ASKED | {"temperature": 9}]}, "requests[1]: temperature"),
    ({"requests": [ASKED | {"stream": True}]}, "requests[0]: stream"),
    ({"requests": [ASKED | {"deadline": 5}]}, "requests[0]: deadline"),
    ({"requests": [ASKED | {"external_reference": 5}]}, "requests[0]: external_reference"),
    ({"requests": [ASKED | {"external_reference": "x" * 513}]}, "requests[0]: external_reference"),
    ({"requests": [ASKED | {"external_reference": "x", "metadata": 5}]}, "requests[0]: metadata"),
    ({"requests": [ASKED], "more": 1}, "more"),
    (ASKED, "requests"),
    ({"request_id": 5}, "request_id"),
    ({"request_id": "x" * 65}, "request_id"),
]


@pytest.mark.parametrize(("body", "word"), BATCHES, ids=lambda value: str(value)[:60])
def test_a_batch_that_cannot_be_taken_is_taken_in_no_part(api: Api, body: dict, word: str):
    jobs = api.http.get("/v1/jobs?limit=1").json()["data"]
    refused_natively(api.http.post(f"{NATIVE}?queueRequest=true", json=body), word)
    assert api.http.get("/v1/jobs?limit=1").json()["data"] == jobs


@pytest.mark.parametrize("name", ["nope", "", "768f15b7-4fd6-4498-906e-ad94ffc7f8d2", "0" * 32, "f" * 32])
def test_a_batch_of_nothing(api: Api, name: str):
    refused_natively(api.http.post(NATIVE, json={"request_id": name}), "no batch", 404, 404)


def test_what_is_wrong_with_all_of_a_native_request(api: Api):
    post = api.http.post
    refused_natively(post(NATIVE, content=b"{not json"), "JSON")
    refused_natively(post(NATIVE, headers={"Authorization": "Bearer no"}, json=ASKED), "key", 401, 10000)
    refused_natively(post("/ai/run/@cf/nobody/nothing", json=ASKED), "nothing", 404, 5007)
    refused_natively(post(NATIVE, json={"requests": [ASKED]}), "queueRequest")
    refused_natively(post(f"{NATIVE}?queueRequest=maybe", json=ASKED), "queueRequest")
    refused_natively(post(NATIVE, content=b"a" * ((4 << 20) + 1)), "bytes", 413, 3006)
    refused_natively(post(NATIVE, json=ASKED), "no worker", 503, 3040)
    refused_natively(post("/ai/run/" + "m" * 201, json=ASKED), "model")
    refused_natively(post("/ai/run/a%00b", json=ASKED), "NUL")
    refused_natively(api.http.get(NATIVE), "Not Allowed", 405)
    refused_natively(post(NATIVE, json=ASKED | {"prompt": "word " * 20_000}), "8192 tokens")


def test_a_prompt_that_does_not_fit_is_told_of_by_its_name(api: Api):
    answer = api.http.post(TEXTS, json={"prompt": "word " * 20_000})
    refused(answer, "prompt")
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_a_key_stands_for_one_batch(api: Api):
    headers = {"Idempotency-Key": "a batch"}
    path = f"{NATIVE}?queueRequest=true"
    first = api.http.post(path, json={"requests": [ASKED] * 3}, headers=headers)
    again = api.http.post(path, json={"requests": [ASKED] * 3}, headers=headers)
    assert (first.status_code, again.status_code, first.json()) == (202, 202, again.json())
    assert again.headers["idempotent-replayed"] == "true"
    refused_natively(api.http.post(path, json={"requests": [ASKED] * 4}, headers=headers), "Idempotency", 422)
    queued = api.http.post(NATIVE, json={"request_id": first.json()["result"]["request_id"]})
    assert (queued.status_code, queued.json()["result"]["status"]) == (202, "queued")
