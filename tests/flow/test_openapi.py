"""Is the API's document true?  Requests made from it, right and wrong ones, and every answer held against it.

TRAM_TEST_EXAMPLES=200 asks each route more than the few times that every run can afford.
"""

import copy
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from api.contract import ROUTES
from api.examples import EXAMPLES
from models.wire.evals import RunRequest
from models.wire.shapes.evals import EvalBody
from tests.flow.hooks import Hooks
from tests.flow.sse import events
from tests.flow.stack import Stack, said, until

EXAMPLES_EACH = int(os.environ.get("TRAM_TEST_EXAMPLES", "12"))
FEW = settings(
    max_examples=EXAMPLES_EACH,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NEED_KNOWLEDGE = ("model", "conversation_id", "webhook_url", "deadline")
"""Fields that no schema can tell the right values of."""
MARK = {"known": "to-the-document"}

CHATS, USAGE = "/v1/chat/completions", {"stream_options": {"include_usage": True}}
WEATHER = said("What is the weather in London?")
PLACE = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
TELL = {"name": "get_weather", "description": "Get the current weather", "parameters": PLACE}
SHAPES = {
    "": ("ChatCompletion", "ChatCompletionChunk"),
    "Text": ("TextCompletion", "TextChunk"),
    "Native": ("NativeAnswer", "NativeChunk"),
}

load_all_checks()


@pytest.fixture(scope="module")
def document(embedded: Stack) -> dict[str, Any]:
    return embedded.http.get("/openapi.json").raise_for_status().json()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> Any:
    return schemathesis.openapi.from_dict(undiscriminated(closed(document)))


@pytest.fixture(scope="module")
def caller(embedded: Stack) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {embedded.key}"
        yield session


@pytest.fixture(scope="module")
def known(embedded: Stack) -> dict[str, str]:
    """An id of each kind, by the name that paths have for it."""
    with Hooks() as hooks:
        job_id = embedded.submit("Hello!", webhook_url=hooks.url, metadata=MARK)
        job = embedded.ended(job_id)
        hooks.sent()
    asked = {"source_request_id": job_id}
    replay = embedded.http.post("/v1/replays", json=asked).raise_for_status().json()["id"]
    delivery = embedded.listed("/v1/webhook_deliveries", job_id=job_id)[0]["id"]
    account = embedded.http.post("/v1/sub-accounts", json={"name": "One"}).raise_for_status().json()["id"]
    row = {"custom_id": "a", "method": "POST", "url": CHATS, "body": {"messages": said("Hello!")}}
    rows = {"file": ("rows.jsonl", json.dumps(row))}
    file = embedded.http.post("/v1/files", files=rows, data={"purpose": "batch"}).raise_for_status().json()["id"]
    asked = {"input_file_id": file, "endpoint": CHATS, "completion_window": "24h"}
    batch = embedded.http.post("/v1/batches", json=asked).raise_for_status().json()["id"]
    until(lambda: embedded.http.get(f"/v1/batches/{batch}").json()["status"] == "completed", 60)
    return graded(embedded) | {
        "file_id": file,
        "batch_id": batch,
        "job_id": job_id,
        "conversation_id": job["conversation_id"],
        "replay_id": replay,
        "delivery_id": delivery,
        "name": job["result"]["id"],
        "account_id": account,
        "model": job["model"],
        "account": "any",
    }


def graded(stack: Stack) -> dict[str, str]:
    """An eval with a run that has ended."""
    eval_id = stack.http.post("/v1/evals", json=EXAMPLES[EvalBody]).raise_for_status().json()["id"]
    path = f"/v1/evals/{eval_id}/runs"
    run_id = stack.http.post(path, json=EXAMPLES[RunRequest]).raise_for_status().json()["id"]
    until(lambda: stack.http.get(f"{path}/{run_id}").json()["status"] == "completed", 60)
    (item,) = stack.listed(f"{path}/{run_id}/output_items")
    return {"eval_id": eval_id, "run_id": run_id, "item_id": item["id"]}


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """With no field in an answer beside those that are told."""
    document = copy.deepcopy(document)
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return document


def undiscriminated(schema: Any) -> Any:
    """`oneOf` says the same; schemathesis 4.32 calls a right role wrong where two of them lead to one shape."""
    if isinstance(schema, list):
        return [undiscriminated(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: undiscriminated(each) for name, each in schema.items() if name != "discriminator"}


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ASKED = [(name, mode) for name, route in ROUTES.items() for mode in (RIGHT, WRONG) if mode is RIGHT or not route.open]


@pytest.mark.parametrize(("name", "mode"), ASKED, ids=str)
def test_every_answer_is_as_the_document_says(embedded, operations, caller, known, name, mode):
    method, path = name.split(" ")
    operation = operations[path][method]
    # A query of strings takes anything, and a stranger in it is overlooked; bodies are strict.
    excluded = [positive_data_acceptance] + ([] if ROUTES[name].body else [negative_data_rejection])

    @FEW
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def holds(case: Any, real: bool) -> None:
        if mode is RIGHT:
            informed(embedded, name, case, known if real else {})
        answer = case.call(base_url=embedded.url, session=caller, headers={"Authorization": f"Bearer {embedded.key}"})
        case.validate_response(answer, excluded_checks=excluded)

    holds()


def informed(stack: Stack, name: str, case: Any, known: dict[str, str]) -> None:
    """What only this service knows is put into a request that is right otherwise."""
    if isinstance(case.body, dict):
        case.body = {field: value for field, value in case.body.items() if field not in NEED_KNOWLEDGE}
    if name == "GET /v1/conversations/export":  # or it brings all that any test has ever said
        case.query = (case.query or {}) | {f"metadata[{key}]": value for key, value in MARK.items()}
    there = known | ({"name": known["model"]} if "/models/" in name else {}) if known else {}
    if known and name == "DELETE /v1/chat/completions/{name}":
        there["name"] = stack.chat("Hello!")["id"]
    if known and name == "DELETE /v1/sub-accounts/{account_id}":
        there["account_id"] = stack.http.post("/v1/sub-accounts", json={"name": "Another"}).json()["id"]
    if known and name.startswith("DELETE /v1/evals"):
        there |= graded(stack)
    if known and name == "DELETE /v1/conversations/{conversation_id}":
        made = stack.http.post("/v1/conversations", json={}).raise_for_status().json()
        there["conversation_id"] = made["id"]
    if known and name == "DELETE /v1/files/{file_id}":
        form = {"files": {"file": ("a", b"x")}, "data": {"purpose": "evals"}}
        there["file_id"] = stack.http.post("/v1/files", **form).json()["id"]
    case.path_parameters = {key: there.get(key, value) for key, value in (case.path_parameters or {}).items()}


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.body in EXAMPLES])
def test_examples_work(embedded, known, name):
    method, path = name.split(" ")
    body = dict(EXAMPLES[ROUTES[name].body])
    body |= {field: known["job_id"] for field in ("source_request_id",) if field in body}
    answer = embedded.http.request(method, path.format(**known), json=body)
    assert answer.status_code == ROUTES[name].status, answer.text


@pytest.mark.parametrize("page", ["/llms.txt", "/docs"])
def test_every_link_answers(embedded, page):
    """Without a key."""
    text = httpx2.get(embedded.url + page, trust_env=False).raise_for_status().text
    links = set(re.findall(r'\]\((/[^)]+)\)|href="(/[^"]+)"', text))
    assert links
    for link in {first or second for first, second in links}:
        path, _, anchor = link.partition("#")
        there = httpx2.get(embedded.url + path, trust_env=False).raise_for_status().text
        assert not anchor or f'id="{anchor}"' in there, link


def faults(document: dict[str, Any], shape: str, told: Any) -> list[str]:
    """What is wrong with it, a field too many included."""
    schema = closed(document) | {"$ref": f"#/components/schemas/{shape}"}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(told)]


@pytest.mark.parametrize(
    ("path", "asked", "shape"),
    [
        (CHATS, {"messages": said("Hello!"), **USAGE}, "ChatCompletionChunk"),
        ("/v1/completions", {"prompt": "Hello!", **USAGE}, "TextChunk"),
        ("/ai/run/{model}", {"prompt": "Hello!"}, "NativeChunk"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_chunk_is_as_the_document_says(embedded, document, known, path, asked, shape):
    with embedded.http.stream("POST", path.format(**known), json=asked | {"stream": True}) as response:
        told = [event.chunk for event in events(response) if event.data != "[DONE]"]
    assert len(told) > 2
    assert [fault for each in told for fault in faults(document, shape, each)] == []


def test_a_batch_is_as_the_document_says(embedded, document, known):
    """While it waits, and answered: one question is right, the other's answer cannot be made."""
    path = f"/ai/run/{known['model']}?queueRequest=true"
    questions = [{"prompt": "Hello!", "external_reference": "first"}, {"prompt": "!status=400"}]
    waiting = embedded.http.post(path, json={"requests": questions})
    asked = {"request_id": waiting.json()["result"]["request_id"]}
    assert (waiting.status_code, faults(document, "NativeWaiting", waiting.json())) == (202, [])
    until(lambda: embedded.http.post(path, json=asked).status_code == 200, 60)
    told = embedded.http.post(path, json=asked).json()
    assert faults(document, "NativeAnswer", told) == []
    assert [each["success"] for each in told["result"]["responses"]] == [True, False]


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("path", "asked", "shape"),
    [
        (CHATS, {"messages": WEATHER, "tools": [{"type": "function", "function": TELL}]}, ""),
        (CHATS, {"messages": WEATHER, "functions": [TELL]}, ""),
        (CHATS, {"messages": said("Hello!"), "logprobs": True, "top_logprobs": 2}, ""),
        ("/v1/completions", {"prompt": "The capital", "logprobs": 2, "echo": True}, "Text"),
        ("/ai/run/tram-demo", {"messages": WEATHER, "tools": [TELL]}, "Native"),
    ],
    ids=["tools", "functions", "logprobs", "text", "native"],
)
def test_what_the_real_engine_says_is_as_the_document_says(stack, document, path, asked, shape):
    whole, chunk = SHAPES[shape]
    assert faults(document, whole, stack.http.post(path, json=asked).raise_for_status().json()) == []
    with stack.http.stream("POST", path, json=asked | {"stream": True}) as response:
        told = [event.chunk for event in events(response) if event.data != "[DONE]"]
    assert told
    assert [fault for each in told for fault in faults(document, chunk, each)] == []


def test_a_delivery_is_as_the_document_says(embedded, document):
    with Hooks() as hooks:
        embedded.submit("Hello!", webhook_url=hooks.url)
        sent = hooks.sent()[0]
    body = json.loads(sent.body)
    operation = document["webhooks"][body["type"]]["post"]
    wanted = {each["name"] for each in operation["parameters"] if each["required"]}
    assert wanted <= {name.lower() for name in sent.headers}
    shape = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert faults(document, shape, body) == []
