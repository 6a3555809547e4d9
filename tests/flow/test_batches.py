"""Is each row of a batch answered once, and told in OpenAI's words?  Batches as openai-python makes them, with processes killed meanwhile."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.flow.engine import tokens
from tests.flow.hooks import Hooks, told
from tests.flow.sse import events
from tests.flow.stack import Stack, said, until
from tests.flow.stack import tram as tram_program

pytestmark = pytest.mark.timeout(300)
CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}
Row = dict[str, Any]


@pytest.fixture
def client(tram: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tram.url}/v1", api_key=tram.key, max_retries=0) as made:
        yield made


def row(name: str, text: str = "!tokens=3", url: str = CHATS, **body: Any) -> Row:
    return {"custom_id": name, "method": "POST", "url": url, "body": {"messages": said(text), **body}}


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in rows).encode()


def begin(stack: Stack, rows: list[Any] | bytes, **fields: Any) -> Row:
    data = rows if isinstance(rows, bytes) else jsonl(rows)
    file = stack.http.post("/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": "batch"})
    body = {"input_file_id": file.raise_for_status().json()["id"], "endpoint": CHATS, "completion_window": "24h"}
    answer = stack.http.post("/v1/batches", json=body | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(stack: Stack, batch: Row) -> Row:
    return stack.http.get(f"/v1/batches/{batch['id']}").raise_for_status().json()


def ended(stack: Stack, batch: Row, within_s: float = 120) -> Row:
    until(lambda: get(stack, batch)["status"] in ENDED, within_s, pause_s=0.2)
    return get(stack, batch)


def lines(stack: Stack, file_id: str | None) -> list[Row]:
    if file_id is None:
        return []
    text = stack.http.get(f"/v1/files/{file_id}/content").raise_for_status().text
    return [json.loads(line) for line in text.splitlines()]


def whole(stack: Stack, batch: Row, names: list[str]) -> list[Row]:
    """The lines of both files: each row once, in the order of the file, and the counts are true."""
    output, errors = (lines(stack, batch[f"{word}_file_id"]) for word in ("output", "error"))
    assert Counter(line["custom_id"] for line in output + errors) == Counter(names)
    for found in (output, errors):
        assert [line["custom_id"] for line in found] == [
            name for name in names if name in {line["custom_id"] for line in found}
        ]
    counts = {"total": len(names), "completed": len(output), "failed": len(errors)}
    assert batch["request_counts"] == counts
    return output + errors


def content(line: Row) -> str:
    return line["response"]["body"]["choices"][0]["message"]["content"]


def test_as_openai_documents_it(client, tram, tmp_path):
    path = tmp_path / "batchinput.jsonl"
    path.write_bytes(jsonl([row(f"request-{number}", f"!tokens={number + 1}") for number in range(20)]))
    with path.open("rb") as opened:
        file = client.files.create(file=opened, purpose="batch")
    made = client.batches.create(
        input_file_id=file.id,
        endpoint=CHATS,
        completion_window="24h",
        metadata={"description": "nightly eval job"},
    )
    assert (made.object, made.status, made.endpoint, made.input_file_id) == ("batch", "validating", CHATS, file.id)
    assert made.expires_at == made.created_at + 86_400
    ended(tram, made.to_dict())
    batch = client.batches.retrieve(made.id)
    assert (batch.status, batch.metadata) == ("completed", {"description": "nightly eval job"})
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (20, 20, 0)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.error_file_id is None
    assert batch.usage.output_tokens == sum(range(1, 21))
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens
    output = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in output] == [f"request-{number}" for number in range(20)]
    assert [content(line) for line in output] == [tokens(number + 1) for number in range(20)]
    assert {(line["response"]["status_code"], line["error"]) for line in output} == {(200, None)}
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    assert batch.id in [each.id for each in client.batches.list(limit=10)]
    job = tram.job(output[0]["response"]["request_id"])
    assert (job["state"], job["result"]) == ("completed", output[0]["response"]["body"])
    assert job["result"]["service_tier"] == "flex"


def test_rows_that_are_no_requests_are_in_the_error_file_and_the_others_are_answered(tram):
    rows = [
        row("good"),
        row("no messages") | {"body": {}},
        row("strange", colour="red"),
        row("streams", stream=True),
        row("nobody's model", model="gpt-9"),
        row("nul", "a\0b"),
        row("engine says no", "!status=400"),
    ]
    batch = ended(tram, begin(tram, rows))
    found = {line["custom_id"]: line for line in whole(tram, batch, [each["custom_id"] for each in rows])}
    assert batch["status"] == "completed"
    assert content(found.pop("good")) == tokens(3)
    told = {name: (line["response"]["status_code"], line["response"]["body"]["error"]) for name, line in found.items()}
    assert {name: (status, error["param"]) for name, (status, error) in told.items()} == {
        "no messages": (400, "messages"),
        "strange": (400, "colour"),
        "streams": (400, "stream"),
        "nobody's model": (404, "model"),
        "nul": (400, "messages[0].content"),
        "engine says no": (400, None),
    }
    assert all(set(error) == {"message", "type", "param", "code"} for _, error in told.values())


@pytest.mark.parametrize(
    ("broken", "line", "code", "param"),
    [
        (b"{not json\n", 2, "invalid_json_line", None),
        (b"[]\n", 2, "invalid_json_line", None),
        (b'"x"\n', 2, "invalid_json_line", None),
        (jsonl([row("first")]), 2, "duplicate_custom_id", "custom_id"),
        (jsonl([row("b") | {"url": "/v1/embeddings"}]), 2, "invalid_url", "url"),
        (jsonl([row("b") | {"method": "GET"}]), 2, "invalid_method", "method"),
        (jsonl([{"custom_id": "b", "method": "POST", "url": CHATS}]), 2, "missing_required_parameter", "body"),
        (jsonl([row("")]), 2, "invalid_custom_id", "custom_id"),
        (jsonl([row("b") | {"colour": "red"}]), 2, "invalid_colour", "colour"),
        (jsonl([row("b", "x" * (5 << 20))]), 2, "line_too_long", "body"),
        (b"\n\n" + b"{not json", 4, "invalid_json_line", None),
    ],
)
def test_a_line_that_is_none_fails_the_batch_and_is_named(embedded, broken, line, code, param):
    batch = ended(embedded, begin(embedded, jsonl([row("first")]) + broken))
    assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("failed", None, None)
    assert batch["failed_at"] >= batch["created_at"]
    (error,) = batch["errors"]["data"]
    assert (error["line"], error["code"], error["param"]) == (line, code, param), error
    assert error["message"]


def test_an_empty_file_fails(embedded):
    batch = ended(embedded, begin(embedded, b"\n \n"))
    assert [error["code"] for error in batch["errors"]["data"]] == ["empty_file"]


def test_rows_that_begin_alike_follow_one_another(embedded):
    """Four system prompts by turns in the file; the engine sees each in one run."""
    prompts = [uuid4().hex * 40 for _ in range(4)]
    rows = [row(f"r{number}", f"!tokens=1 name={number}") for number in range(40)]
    for number, each in enumerate(rows):
        each["body"]["messages"].insert(0, {"role": "system", "content": prompts[number % 4]})
    before = len(embedded.engine.requests())
    batch = ended(embedded, begin(embedded, rows))
    whole(embedded, batch, [each["custom_id"] for each in rows])
    seen = [prompts.index(asked["messages"][0]["content"]) for asked in embedded.engine.requests()[before:]]
    changes = sum(1 for first, second in pairwise(seen) if first != second)
    assert changes < 15, f"39 if they were fed as they came: {seen}"


def test_texts_are_completed_as_texts(tram):
    rows = [row(f"t{number}", url=TEXTS) | {"body": {"prompt": f"!tokens={number + 1}"}} for number in range(5)]
    batch = ended(tram, begin(tram, rows, endpoint=TEXTS))
    found = whole(tram, batch, [each["custom_id"] for each in rows])
    assert [line["response"]["body"]["choices"][0]["text"] for line in found] == [tokens(n + 1) for n in range(5)]
    assert {line["response"]["body"]["object"] for line in found} == {"text_completion"}
    jobs = tram.listed("/v1/jobs", part_of=batch["id"])
    assert [job["door"] for job in jobs] == ["batch"] * len(rows)
    assert {job["part_of"] for job in jobs} == {batch["id"]}


def test_results_can_be_read_while_it_runs(tram):
    rows = [row(f"r{number}") for number in range(4)] + [row("last", "!hang")]
    batch = begin(tram, rows)
    path, seen = f"/v1/batches/{batch['id']}/results", []

    def look() -> bool:
        after = {"after": seen[-1]["id"]} if seen else {}
        seen.extend(tram.http.get(path, params={"limit": 2, **after}).raise_for_status().json()["data"])
        return len(seen) >= 4

    until(look, 60)
    assert get(tram, batch)["status"] == "in_progress"
    tram.http.post(f"/v1/batches/{batch['id']}/cancel").raise_for_status()
    batch = ended(tram, batch)
    until(lambda: look() and len(seen) == 5, 20)
    assert Counter(line["custom_id"] for line in seen) == Counter(each["custom_id"] for each in rows)
    assert {line["id"]: line for line in seen} == {
        line["id"]: line for line in whole(tram, batch, [each["custom_id"] for each in rows])
    }
    wrong = tram.http.get(path, params={"after": "batch_req_nothing"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


def test_a_cancelled_one_has_what_was_answered_and_frees_the_engine(client, tram):
    rows = [row(f"done{number}") for number in range(3)] + [row(f"stuck{number}", "!hang") for number in range(20)]
    batch = begin(tram, rows)
    until(lambda: get(tram, batch)["request_counts"]["completed"] == 3, 60)
    assert client.batches.cancel(batch["id"]).status in {"cancelling", "cancelled"}
    batch = ended(tram, batch)
    assert batch["status"] == "cancelled"
    assert batch["created_at"] <= batch["cancelling_at"] <= batch["cancelled_at"]
    found = whole(tram, batch, [each["custom_id"] for each in rows])
    assert Counter((line["error"] or {}).get("code") for line in found) == {None: 3, "batch_cancelled": 20}
    tram.engine.wait(running=0)
    assert client.batches.cancel(batch["id"]).status == "cancelled", "and stays so"


def test_an_ended_one_cannot_be_cancelled(client, tram):
    batch = ended(tram, begin(tram, [row("a")]))
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch["id"])
    assert get(tram, batch) == batch


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "59m"}, "completion_window"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 10}}, "output_expires_after.seconds"),
        ({"webhook_url": "ftp://x"}, "webhook_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_request_is_refused_by_name(embedded, fields, param):
    file = embedded.http.post("/v1/files", files={"file": ("a", b"{}")}, data={"purpose": "batch"}).json()["id"]
    body = {"input_file_id": file, "endpoint": CHATS, "completion_window": "24h"}
    answer = embedded.http.post("/v1/batches", json=body | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_only_a_batchs_file_makes_a_batch(embedded):
    body = {"endpoint": CHATS, "completion_window": "7d"}
    other = embedded.http.post("/v1/files", files={"file": ("a", b"{}")}, data={"purpose": "evals"}).json()["id"]
    told = embedded.http.post("/v1/batches", json=body | {"input_file_id": other})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "input_file_id")
    told = embedded.http.post("/v1/batches", json=body | {"input_file_id": "file-nothing"})
    assert (told.status_code, told.json()["error"]["param"]) == (404, "input_file_id")


def test_one_asked_for_twice_is_made_once(tram):
    file = tram.http.post("/v1/files", files={"file": ("a", jsonl([row("a")]))}, data={"purpose": "batch"}).json()
    body = {"input_file_id": file["id"], "endpoint": CHATS, "completion_window": "1h"}
    key = {"Idempotency-Key": uuid4().hex}
    first, again = (tram.http.post("/v1/batches", json=body, headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = tram.http.post("/v1/batches", json=body | {"completion_window": "2h"}, headers=key)
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    ended(tram, first.json())


def test_its_end_is_told(tram, hooks):
    for rows, word in (([row("a"), row("b")], "completed"), ([row("a"), row("a")], "failed")):
        batch = ended(tram, begin(tram, rows, webhook_url=hooks.url, metadata={"order": "4711"}))
        sent = next(each for each in map(told, _sent(hooks, batch)) if each.event["data"]["id"] == batch["id"])
        assert (sent.event["type"], sent.event["object"]) == (f"batch.{word}", "event")
        assert sent.event["data"]["request_counts"] == batch["request_counts"]
        assert sent.event["data"]["metadata"] == {"order": "4711"}


def _sent(hooks: Hooks, batch: Row) -> list[Any]:
    until(lambda: any(batch["id"].encode() in sent.body for sent in hooks.seen), 30)
    return hooks.seen


def test_its_progress_is_told_to_whoever_listens(tram):
    batch = begin(tram, [row(f"r{number}", "!tokens=5 rate=5") for number in range(12)])
    with tram.http.stream("GET", f"/v1/batches/{batch['id']}/events") as answer:
        told = [event.data for event in events(answer)]
    assert told[-1] == "[DONE]"
    counts = [json.loads(each)["request_counts"]["completed"] for each in told[:-1]]
    assert counts == sorted(counts)
    assert (counts[-1], json.loads(told[-2])["status"]) == (12, "completed")


def test_answers_that_are_not_to_be_stored_are_in_the_file_and_nowhere_else(embedded):
    batch = ended(embedded, begin(embedded, [row("a", store=False), row("b")]))
    kept, stays = whole(embedded, batch, ["a", "b"])
    assert (content(kept), content(stays)) == (tokens(3), tokens(3))
    job_id = kept["response"]["request_id"]
    until(lambda: embedded.job(job_id)["result"] is None, 30)
    assert embedded.job(stays["response"]["request_id"])["result"] is not None


def test_an_account_that_may_have_two_jobs_open_has_its_batch_answered(tram):
    made = tram.http.post("/v1/sub-accounts", json={"name": "narrow", "max_parallel_requests": 2})
    assert made.status_code == 201, made.text
    with tram.client(made.json()["scoped_key"]) as http:
        narrow = type("Narrow", (), {"http": http})()
        batch = ended(narrow, begin(narrow, [row(f"r{number}") for number in range(9)]))
        assert batch["request_counts"] == {"total": 9, "completed": 9, "failed": 0}


def test_each_row_once_though_the_worker_dies(faulty):
    names = [f"r{number}" for number in range(300)]
    batch = begin(faulty, [row(name, "!tokens=10 rate=40") for name in names])
    before = faulty.engine.state()["finished"]
    for finished in (40, 120):
        faulty.engine.wait(min_finished=before + finished, min_running=1)
        faulty.restarted("worker", faulty.kill("worker"))
    batch = ended(faulty, batch)
    found = whole(faulty, batch, names)
    assert {content(line) for line in found} == {tokens(10)}
    assert batch["usage"]["output_tokens"] == 3000


def test_each_row_once_though_upkeep_dies_again_and_again(faulty):
    """While it validates, when it has fed the first window, in the middle, and about when it writes its files."""
    names = [f"r{number}" for number in range(3000)]
    batch = begin(faulty, [row(name, "!tokens=2", user="x" * 300) for name in names])
    for done in (-1, 0, 1200, 2990):  # a fifth death within a minute would be one too many for the supervisor
        until(lambda done=done: _done(faulty, batch) > done, 120, pause_s=0.02)
        faulty.restarted("upkeep", faulty.kill("upkeep"))
    batch = ended(faulty, batch, 200)
    assert batch["status"] == "completed"
    found = whole(faulty, batch, names)
    assert {content(line) for line in found} == {tokens(2)}
    made = faulty.rows(f"SELECT count(*), count(DISTINCT id) FROM jobs WHERE batch_id = '{batch['id']}'")
    assert made == [(3000, 3000)], "no row became two jobs"
    files = faulty.rows(f"SELECT state FROM files WHERE filename LIKE '{batch['id']}%'")
    assert files == [("stored",)]


def _done(stack: Stack, batch: Row) -> int:
    return get(stack, batch)["request_counts"]["completed"]


def test_the_command_line_runs_a_file(embedded, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl([row(f"r{number}") for number in range(8)]))
    told = embedded.command("batch", "run", str(source), "-o", str(output))
    assert "8 of 8 answered" in told
    assert [json.loads(line)["custom_id"] for line in output.read_text().splitlines()] == [f"r{n}" for n in range(8)]
    output.unlink()
    again = embedded.command("batch", "run", str(source), "-o", str(output))
    assert told.splitlines()[0] == again.splitlines()[0], "the same batch, found again"
    assert output.exists()
    assert told.splitlines()[0] in embedded.command("batch", "list")


def test_the_command_line_joins_what_it_left_and_says_what_failed(embedded, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl([row("good"), row("bad", colour="red"), row("slow", "!tokens=20 rate=5")]))
    command = (tram_program(), "batch", "run", str(source), "-o", str(output), "--window", "2d")
    options = {"env": embedded._environment, "cwd": tmp_path, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **options)
    batch_id = first.stdout.readline().strip()
    first.kill()
    first.communicate()
    second = subprocess.run(command, **options, timeout=60, check=False)
    assert (second.returncode, second.stdout.splitlines()[0]) == (2, batch_id)
    assert "2 of 3 answered, 1 failed" in second.stdout
    (failed,) = (json.loads(line) for line in Path(f"{output}.errors").read_text().splitlines())
    assert failed["custom_id"] == "bad"


def test_the_command_line_runs_a_file_again_where_its_answers_are_gone_or_it_is_told_to(embedded, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    failed = Path(f"{output}.errors")
    source.write_bytes(jsonl([row("good"), row("bad", colour="blue")]))
    command = ("batch", "run", str(source), "-o", str(output))

    def run(*options: str) -> tuple[str, dict[str, Any]]:
        done = embedded._run(*command, *options)
        name = done.stdout.splitlines()[0]
        assert (done.returncode, sorted(tmp_path.iterdir())) == (2, [source, output, failed]), done.stderr
        return name, get(embedded, {"id": name})

    first, view = run()
    embedded.http.delete(f"/v1/files/{view['output_file_id']}").raise_for_status()
    output.unlink()
    second, _ = run()
    third, _ = run("--again")
    assert len({first, second, third}) == 3
    assert run()[0] == third
    source.write_bytes(jsonl([row("good", user="alone")]))
    embedded.command(*command)
    assert sorted(tmp_path.iterdir()) == [source, output], "no errors of another run"


def test_the_command_line_takes_no_folder_for_a_file(embedded, tmp_path):
    for source, output in ((tmp_path, tmp_path / "out"), (Path(__file__), tmp_path)):
        done = embedded._run("batch", "run", str(source), "-o", str(output))
        assert (done.returncode, done.stderr[:6]) == (2, "Usage:")


def test_what_is_another_accounts_is_not_there(tram):
    batch = ended(tram, begin(tram, [row("a")]))
    key = tram.command("keys", "create", "--account", "batches of somebody else")
    with tram.client(key) as other:
        for method, path in (("GET", ""), ("GET", "/results"), ("GET", "/events"), ("POST", "/cancel")):
            assert other.request(method, f"/v1/batches/{batch['id']}{path}").status_code == 404
        assert other.get("/v1/batches").json()["data"] == []
        body = {"input_file_id": batch["input_file_id"], "endpoint": CHATS, "completion_window": "24h"}
        assert other.post("/v1/batches", json=body).status_code == 404
