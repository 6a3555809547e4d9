"""Do evals written for OpenAI's service, and for AIGateway's, run here?  Unmodified clients, on both columns; and with upkeep killed."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import aigateway
import openai
import pytest

from models.ids import job_of
from tests.flow.hooks import Hooks
from tests.flow.sse import events
from tests.flow.stack import Stack, said, until

MODEL = "tiny"
OPEN = {"queued", "in_progress"}
SCHEMA = {
    "type": "object",
    "properties": {"ask": {"type": "string"}, "wanted": {"type": "string"}},
    "required": ["ask"],
}
CONFIG = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
RIGHT = {
    "type": "string_check",
    "name": "right",
    "operation": "ilike",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.wanted }}",
}
TEMPLATE = {
    "type": "template",
    "template": [
        {"role": "developer", "content": "You count."},
        {"role": "user", "content": "{{ item.ask }}"},
    ],
}
SCORED = "!raw=%7B%22score%22%3A%200.75%7D"
ROWS = [
    {"item": {"ask": "!tokens=3", "wanted": "TOKEN 3"}},
    {"item": {"ask": "!tokens=1", "wanted": "token 3"}},
    {"item": {"ask": "!status=400", "wanted": "nothing"}},
]


@pytest.fixture
def client(tram: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tram.url}/v1", api_key=tram.key, max_retries=0) as made:
        yield made


@pytest.fixture
def gateway(tram: Stack) -> Iterator[aigateway.AIgateway]:
    with aigateway.AIgateway(api_key=tram.key, base_url=tram.url) as made:
        yield made


def inline(rows):
    return {"type": "file_content", "content": rows}


def judge(name, text=SCORED, **more):
    shown = [
        {"role": "system", "content": "Q: {{item.ask}} A: {{sample.output_text}}"},
        {"role": "user", "content": text},
    ]
    return {"type": "score_model", "name": name, "model": MODEL, "input": shown, **more}


def completions(rows, **more):
    source = rows if isinstance(rows, dict) else inline(rows)
    return {"type": "completions", "source": source, "input_messages": TEMPLATE, "model": MODEL, **more}


def made(client, *criteria, config=CONFIG, **more):
    return client.evals.create(
        name="counting", data_source_config=config, testing_criteria=[*criteria] or [RIGHT], **more
    )


def ran(client, eval_id, data_source, within_s=40.0, **more):
    run = client.evals.runs.create(eval_id, data_source=data_source, **more)
    until(lambda: client.evals.runs.retrieve(run.id, eval_id=eval_id).status not in OPEN, within_s)
    return client.evals.runs.retrieve(run.id, eval_id=eval_id)


def items(client, run, **more):
    return list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, **more))


def test_a_script_for_openais_service_runs_here(client):
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    file = client.files.create(file=("counting.jsonl", io.BytesIO(lines)), purpose="evals")
    created = made(client, metadata={"team": "counting"})
    assert (created.object, created.name, created.metadata) == ("eval", "counting", {"team": "counting"})
    assert created.data_source_config.schema_["properties"]["item"] == SCHEMA
    assert created.testing_criteria[0].operation == "ilike"

    asked = completions({"type": "file_id", "id": file.id}, sampling_params={"temperature": 0.5, "seed": 7})
    run = client.evals.runs.create(created.id, name="first", data_source=asked, metadata={"try": "1"})
    assert (run.object, run.status, run.name, run.model, run.eval_id) == (
        "eval.run",
        "queued",
        "first",
        MODEL,
        created.id,
    )
    until(lambda: client.evals.runs.retrieve(run.id, eval_id=created.id).status not in OPEN, 40)
    run = client.evals.runs.retrieve(run.id, eval_id=created.id)
    assert run.status == "completed"
    assert run.result_counts.to_dict() == {"total": 3, "passed": 1, "failed": 1, "errored": 1}
    assert run.per_testing_criteria_results[0].to_dict() | {"score": 0.5} == {
        "testing_criteria": "right",
        "passed": 1,
        "failed": 1,
        "errored": 1,
        "score": 0.5,
    }
    (used,) = run.per_model_usage
    assert (used.run_model_name, used.invocation_count, used.completion_tokens) == (MODEL, 3, 4)
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens
    assert run.data_source.source.id == file.id
    assert run.data_source.sampling_params.seed == 7


def test_every_item_shows_what_was_asked_answered_and_graded(client):
    created = made(client)
    run = ran(client, created.id, completions(ROWS, sampling_params={"temperature": 0.5, "seed": 7}))
    found = items(client, run)
    assert [(each.datasource_item_id, each.status) for each in found] == [(0, "pass"), (1, "fail"), (2, "error")]
    first = client.evals.runs.output_items.retrieve(found[0].id, eval_id=created.id, run_id=run.id)
    assert first.to_dict() == found[0].to_dict()
    assert first.datasource_item == ROWS[0]["item"]
    assert [message.to_dict() for message in first.sample.input] == [
        {"role": "developer", "content": "You count."},
        {"role": "user", "content": "!tokens=3"},
    ]
    assert first.sample.output[0].content == "token 1 token 2 token 3"
    assert (first.sample.finish_reason, first.sample.temperature, first.sample.seed) == ("stop", 0.5, 7)
    assert (first.results[0].name, first.results[0].score, first.results[0].passed) == ("right", 1.0, True)
    assert found[2].sample.error.message == "scripted 400"
    assert "there is no answer" in found[2].results[0].error
    assert [each.id for each in items(client, run, status="fail")] == [found[1].id]
    assert [each.id for each in items(client, run, order="desc", limit=1)] == [each.id for each in reversed(found)]

    assert [each.id for each in client.evals.runs.list(created.id, status="completed")] == [run.id]
    assert [each.id for each in client.evals.runs.list(created.id, status="failed")] == []


def test_evals_are_renamed_listed_and_deleted(client):
    created = made(client)
    run = ran(client, created.id, {"type": "jsonl", "source": inline(ROWS[:1])})
    renamed = client.evals.update(created.id, name="still counting", metadata={"a": "b"})
    assert (renamed.name, renamed.metadata) == ("still counting", {"a": "b"})
    listed = client.evals.list(order="desc", order_by="updated_at", limit=1)
    assert next(iter(listed)).id == created.id
    assert client.evals.runs.delete(run.id, eval_id=created.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(run.id, eval_id=created.id)
    assert client.evals.delete(created.id).to_dict() == {
        "object": "eval.deleted",
        "deleted": True,
        "eval_id": created.id,
    }
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(created.id)


def test_what_a_deleted_run_said_is_gone(tram, client):
    run = ran(client, made(client).id, completions([{"item": {"ask": "!tokens=3", "wanted": "3"}}]))
    (item,) = items(client, run)
    assert tram.job(item.job_id)["result"]["choices"][0]["message"]["content"] == "token 1 token 2 token 3"
    client.evals.delete(run.eval_id)
    assert tram.http.get(f"/v1/jobs/{item.job_id}").status_code == 404


@contextmanager
def refusing(kept):
    """The folder leads to itself, so the store cannot tell whether the object is there."""
    aside = kept.parent.rename(kept.parent.with_name("aside"))
    kept.parent.symlink_to(kept.parent)
    yield
    kept.parent.unlink()
    aside.rename(kept.parent)


def test_a_deletion_that_the_objects_refuse_is_brought_to_its_end(embedded: Stack):
    with openai.OpenAI(base_url=f"{embedded.url}/v1", api_key=embedded.key, max_retries=0) as client:
        run = ran(client, made(client).id, completions([{"item": {"ask": "!tokens=9000", "wanted": "9000"}}]))
        (item,) = items(client, run)
        chat = client.chat.completions.create(model=MODEL, messages=said("!tokens=9000"), store=True)
        asked = {
            item.job_id: lambda: client.evals.runs.delete(run.id, eval_id=run.eval_id),
            job_of(chat.id): lambda: client.chat.completions.delete(chat.id),
        }
        for job_id, delete in asked.items():
            ((key,),) = embedded.rows(f"SELECT result_key FROM jobs WHERE id = '{job_id}'")
            kept = embedded.folder / "data" / "objects" / key
            with refusing(kept):
                assert delete().deleted
            assert kept.exists(), "nobody can read it any more, but it is there"
            until(lambda kept=kept: not kept.exists(), 30)


def test_judges_are_asked_through_the_queue_and_what_cannot_be_read_does_not_pass(client):
    created = made(client, judge("good"), judge("strict", pass_threshold=0.8), judge("babbles", "!tokens=2"))
    run = ran(client, created.id, completions(ROWS[:2]))
    assert run.status == "failed", "nothing could be graded"
    assert run.error.code == "no_item_graded"
    assert [(each.passed, each.failed, each.errored) for each in run.per_testing_criteria_results] == [
        (2, 0, 0),
        (0, 2, 0),
        (0, 0, 2),
    ]
    (used,) = run.per_model_usage
    assert used.invocation_count == 2 + 6, "each sample once, and each judge once about each"
    good, strict, babbles = items(client, run)[0].results
    assert (good.score, good.passed, strict.passed, babbles.passed) == (0.75, True, False, False)
    assert "is not JSON" in babbles.error
    words = [each.sample["output"][0]["content"] for each in (good, babbles)]
    assert words == ['{"score": 0.75}', "token 1 token 2"]


def test_a_script_for_openais_responses_runs_here(client, tram):
    file = client.files.create(file=("asks.jsonl", json.dumps(ROWS[0]).encode()), purpose="evals")
    asked = {
        "type": "responses",
        "source": {"type": "file_id", "id": file.id},
        "input_messages": TEMPLATE,
        "model": MODEL,
        "sampling_params": {
            "max_completions_tokens": 2,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        },
    }
    run = ran(client, made(client).id, asked)
    (item,) = items(client, run)
    assert (run.status, item.sample.output[0].content) == ("completed", "token 1 token 2")
    assert (run.data_source.type, run.data_source.sampling_params.text.format.name) == ("responses", "n")
    body = next(body for body in reversed(tram.engine.requests()) if body["messages"][-1]["content"] == "!tokens=3")
    assert body["response_format"]["json_schema"]["name"] == "n"


def test_a_judge_sees_into_the_arguments_of_a_call(client):
    function = {"name": "f", "arguments": '{"symbols": ["a"]}'}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    shown = judge("good") | {"pass_threshold": 0.7}
    shown["input"][0]["content"] = "{{sample.output_tools[0].function.arguments.symbols}}"
    rows = [{"item": {"ask": "a"}, "sample": {"choices": [{"message": message}]}}]
    run = ran(client, made(client, shown).id, {"type": "jsonl", "source": inline(rows)})
    assert (run.result_counts.passed, run.per_model_usage[0].invocation_count) == (1, 1)


def test_answers_that_came_with_their_items_are_graded_without_a_model(client, tram):
    rows = [
        {"item": {"ask": "a", "wanted": "Paris"}, "sample": {"output_text": "It is paris."}},
        {"item": {"ask": "b", "wanted": "Rome"}, "sample": {"choices": [{"message": {"content": "It is Oslo."}}]}},
        {"item": {"ask": "c", "wanted": "Bern"}},
    ]
    before = len(tram.engine.requests())
    run = ran(client, made(client).id, {"type": "jsonl", "source": inline(rows)})
    assert [each.status for each in items(client, run)] == ["pass", "fail", "fail"]
    assert (run.model, run.per_model_usage, run.status) == (None, [], "completed")
    assert run.data_source.source.content[0].to_dict() == rows[0]
    assert len(tram.engine.requests()) == before
    judged = ran(client, made(client, judge("good")).id, {"type": "jsonl", "source": inline(rows[:1])})
    assert (judged.result_counts.passed, judged.per_model_usage[0].invocation_count) == (1, 1)


def test_stored_completions_are_graded_and_asked_again(client):
    marked = {"usecase": f"counting-{made(client).id}"}
    for count in (2, 3):
        client.chat.completions.create(model=MODEL, messages=said(f"!tokens={count}"), store=True, metadata=marked)
    config = {"type": "logs", "metadata": marked}
    three = RIGHT | {"reference": "token 3"}
    created = made(client, three, config=config)
    assert created.data_source_config.type == "logs"
    stored = {"type": "stored_completions", "model": MODEL}
    old = ran(client, created.id, {"type": "completions", "source": stored})
    assert [each.status for each in items(client, old)] == ["fail", "pass"]
    assert items(client, old)[0].datasource_item["input"] == said("!tokens=2")
    again = {"type": "item_reference", "item_reference": "item.input"}
    asked = {"type": "completions", "source": stored | {"limit": 1}, "input_messages": again, "model": MODEL}
    new = ran(client, created.id, asked)
    assert [(each.status, each.sample.output[0].content) for each in items(client, new)] == [
        ("pass", "token 1 token 2 token 3")
    ]
    with pytest.raises(openai.BadRequestError, match="no stored completion"):
        client.evals.runs.create(created.id, data_source=asked | {"source": stored | {"created_before": 1}})


def test_runs_are_compared_and_the_best_gives_its_model_a_name(client, tram):
    created = made(client)
    with pytest.raises(openai.ConflictError) as none:
        client.chat.completions.create(model=f"eval:{created.id}", messages=said("!tokens=1"))
    assert none.value.code == "no_winner"
    rows = [{"item": {"ask": "!tokens=9", "wanted": f"token {n}"}} for n in range(1, 9)]
    short = ran(client, created.id, completions(rows, sampling_params={"max_completion_tokens": 2}), name="short")
    long = ran(client, created.id, completions(rows[::-1]), name="long")
    assert (short.result_counts.passed, long.result_counts.passed) == (2, 8)
    told = tram.http.get(
        f"/v1/evals/{created.id}/compare", params={"runs": f"{short.id},{long.id}", "slice": "item.wanted"}
    )
    told = told.raise_for_status().json()
    (pair,) = told["comparisons"]
    assert (pair["baseline"], pair["run"], pair["n"], pair["wins"], pair["losses"]) == ("short", "long", 8, 6, 0)
    assert 0 < pair["low"] < pair["difference"] == 0.75 <= pair["high"]
    assert len(told["slices"]) == 16
    assert [run["completion_tokens"] for run in told["runs"]] == [16, 72]
    page = tram.http.get(long.report_url).raise_for_status()
    assert page.headers["content-type"].startswith("text/html")
    assert "counting" in page.text
    answer = client.chat.completions.create(model=f"eval:{created.id}", messages=said("!tokens=1"))
    assert (answer.model, answer.choices[0].message.content) == (f"eval:{created.id}", "token 1")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="eval:eval_unknown", messages=said("!tokens=1"))
    stray = tram.http.get(f"/v1/evals/{created.id}/compare", params={"runs": short.id, "slice": "level"})
    assert (stray.status_code, stray.json()["error"]["param"]) == (400, "slice")
    compared = {"runs": f"{short.id},evalrun_unknown"}
    assert tram.http.get(f"/v1/evals/{created.id}/compare", params=compared).status_code == 404


def test_a_run_is_cancelled_and_followed_and_told(client, tram, hooks: Hooks):
    created = made(client)
    rows = [{"item": {"ask": "!tokens=1"}}, {"item": {"ask": "!hang"}}]
    asked = {"data_source": completions(rows), "webhook_url": hooks.url, "metadata": {"n": "1"}}
    run = tram.http.post(f"/v1/evals/{created.id}/runs", json=asked).raise_for_status().json()
    tram.engine.wait(running=1)
    with tram.http.stream("GET", f"/v1/evals/{created.id}/runs/{run['id']}/events") as line:
        following = events(line)
        assert json.loads(next(following).data)["object"] == "eval.run"
        with pytest.raises(openai.ConflictError) as early:
            client.evals.runs.delete(run["id"], eval_id=created.id)
        assert early.value.code == "still_running"
        client.evals.runs.cancel(run["id"], eval_id=created.id)
        rest = [each.data for each in following]
    assert rest[-1] == "[DONE]"
    assert json.loads(rest[-2])["status"] == "cancelled"
    tram.engine.wait(running=0)
    older = tram.http.post(f"/v1/evals/{created.id}/runs/{run['id']}")
    assert (older.status_code, older.json()["status"]) == (200, "canceled")
    (sent,) = hooks.sent()
    secret = tram.http.get("/v1/webhook-secret").json()["secret"]
    event = client.webhooks.unwrap(sent.body, sent.headers, secret=secret)
    assert (event.type, event.data.id) == ("eval.run.canceled", run["id"])


def test_aigateways_shorthand_runs_its_candidates_and_names_a_winner(gateway, client):
    rows = [{"input": "!tokens=3", "expected": "token 3"}, {"input": said("!tokens=1"), "expected": "Token 1"}]
    told = gateway.evals.create(name="pick one", metric="quality", candidate_models=[MODEL], dataset=rows)
    assert (told["status"], told["winner_model"]) == ("running", None)
    until(lambda: gateway.evals.get(told["id"])["status"] != "running", 40)
    told = gateway.evals.get(told["id"])
    assert (told["status"], told["winner_model"], told["metric"]) == ("completed", MODEL, "quality")
    assert told["summary"].startswith("tiny wins on quality; tiny: 2 of 2 passed")
    (one,) = told["results"]
    assert (one["model"], one["passed"], one["total"], one["score"]) == (MODEL, 2, 2, 1.0)
    assert {each["object"] for each in gateway.evals.list()} >= {"eval"}
    assert told["id"] in {each.id for each in client.evals.list(order="desc").data}, "the newest first"
    assert [run.id for run in client.evals.runs.list(told["id"])] == [one["run_id"]]
    answer = client.chat.completions.create(model=f"eval:{told['id']}", messages=said("!tokens=2"))
    assert answer.choices[0].message.content == "token 1 token 2"


def test_a_killed_upkeep_asks_no_sample_twice_and_the_run_ends(faulty: Stack):
    rows = [{"item": {"ask": f"!tokens=2 first=0.2 name=n{n}-", "wanted": f"n{n}- 2"}} for n in range(60)]
    with openai.OpenAI(base_url=f"{faulty.url}/v1", api_key=faulty.key, max_retries=0) as client:
        created = made(client, RIGHT, judge("good"))
        run = client.evals.runs.create(created.id, data_source=completions(rows))
        for least in (1, 40, 70):
            faulty.engine.wait(min_finished=least)
            old = faulty.kill("upkeep")
            faulty.restarted("upkeep", old)
        until(lambda: client.evals.runs.retrieve(run.id, eval_id=created.id).status not in OPEN, 90)
        run = client.evals.runs.retrieve(run.id, eval_id=created.id)
        assert run.result_counts.to_dict() == {"total": 60, "passed": 60, "failed": 0, "errored": 0}
        assert run.per_model_usage[0].invocation_count == 120
        found = items(client, run, limit=100)
    assert [each.datasource_item["ask"] for each in found] == [row["item"]["ask"] for row in rows]
    asked = [body["messages"][-1]["content"] for body in faulty.engine.requests()]
    samples = [text for text in asked if text.startswith("!tokens=2")]
    assert sorted(samples) == sorted(row["item"]["ask"] for row in rows)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("", {"testing_criteria": [RIGHT], "data_source_config": CONFIG, "candidate_models": ["a"]}, 400, "candidate_models"),
        ("", {"testing_criteria": [RIGHT], "data_source_config": CONFIG | {"color": 1}}, 400, "data_source_config.color"),
        ("", {"testing_criteria": [judge("x") | {"model": "gpt-nope"}], "data_source_config": CONFIG}, 404, "testing_criteria[0].model"),
        ("", {"testing_criteria": [RIGHT, RIGHT], "data_source_config": CONFIG}, 400, "testing_criteria[1].name"),
        ("", {"testing_criteria": [RIGHT | {"operation": "is"}], "data_source_config": CONFIG}, 400, "testing_criteria[0].operation"),
        ("", {"testing_criteria": [RIGHT], "data_source_config": CONFIG | {"item_schema": {"type": 5}}}, 400, "data_source_config.item_schema"),
        ("", {"testing_criteria": [judge("x") | {"input": [{"role": ["user"], "content": "x"}]}], "data_source_config": CONFIG}, 400, "testing_criteria[0].input[0].role"),
        ("runs", {"data_source": completions(ROWS) | {"input_messages": {"type": "template", "template": [{"content": "x"}]}}}, 400, "data_source.input_messages.template[0].role"),
        ("runs", {"data_source": {"type": "responses", "source": {"type": "responses"}}}, 400, "data_source.source.type"),
        ("runs", {"data_source": completions([{"item": {"ask": 5}}])}, 400, "data_source.source.content[0]"),
        ("runs", {"data_source": completions(ROWS, sampling_params={"reasoning_effort": "low"})}, 400, "data_source.sampling_params.reasoning_effort"),
        ("runs", {"data_source": completions(ROWS, sampling_params={"temperature": 9})}, 400, "data_source.sampling_params.temperature"),
        ("runs", {"data_source": completions(ROWS) | {"model": "gpt-nope"}}, 404, "data_source.model"),
        ("runs", {"data_source": completions({"type": "file_id", "id": "file-nope"})}, 404, "data_source.source.id"),
        ("runs", {"data_source": completions(ROWS) | {"model": None}}, 400, "data_source.input_messages"),
        ("runs", {"data_source": completions(ROWS), "tags": []}, 400, "tags"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_its_name(tram: Stack, client, path, body, status, param):
    target = f"/v1/evals/{made(client).id}/{path}" if path else "/v1/evals"
    answer = tram.http.post(target, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "input[1].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "{{item.a}}"}]}]}, "input[0].content[0]"),
        ({"sampling_params": {"temperature": 9}}, "sampling_params.temperature"),
        ({"sampling_params": {"max_tokens": 10**7}}, "sampling_params.max_completion_tokens"),
    ],
)  # fmt: skip
def test_a_judge_that_could_not_be_asked_is_refused_with_its_eval(tram: Stack, changes, param):
    alone, inside = judge("x") | changes, {"type": "multi", "name": "m", "graders": {"a": judge("a") | changes}}
    for criterion, where in ((alone, ""), (inside | {"calculate_output": "a"}, "graders.a.")):
        answer = tram.http.post("/v1/evals", json={"data_source_config": CONFIG, "testing_criteria": [criterion]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, f"testing_criteria[0].{where}{param}")


def test_a_judge_that_the_account_may_not_use_is_refused_with_its_eval(tram: Stack):
    made = tram.http.post("/v1/sub-accounts", json={"name": "no judges", "allowed_models": ["other"]})
    short = {"name": "n", "candidate_models": [MODEL], "dataset": [{"input": "q"}]}
    with tram.client(made.json()["scoped_key"]) as kid:
        told = kid.post("/v1/evals", json={"data_source_config": CONFIG, "testing_criteria": [judge("x")]})
        shortly = kid.post("/v1/evals", json=short)
    params = ("testing_criteria[0].model", "metric")
    for answer, param in zip((told, shortly), params, strict=True):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (403, "model_not_allowed", param)


def test_a_request_with_a_key_is_made_once(tram: Stack, client):
    body = {"data_source_config": CONFIG, "testing_criteria": [RIGHT]}
    key = {"Idempotency-Key": made(client).id}

    def post(path, body):
        return tram.http.post(path, json=body, headers=key)  # the key of the moment

    first, second = post("/v1/evals", body), post("/v1/evals", body)
    assert (first.status_code, first.json()["id"]) == (201, second.json()["id"])
    assert second.headers["idempotent-replayed"] == "true"
    assert post("/v1/evals", body | {"name": "other"}).status_code == 422
    key = {"Idempotency-Key": first.json()["id"]}
    path, asked = f"/v1/evals/{first.json()['id']}/runs", {"data_source": {"type": "jsonl", "source": inline(ROWS)}}
    assert post(path, asked).json()["id"] == post(path, asked).json()["id"]
    assert len(tram.listed(path)) == 1


def test_what_belongs_to_another_is_not_there(tram: Stack, client):
    created = made(client)
    key = tram.command("keys", "create", "--account", "a stranger to evals")
    with tram.client(key) as stranger:
        assert stranger.get(f"/v1/evals/{created.id}").status_code == 404
        assert stranger.post(f"/v1/evals/{created.id}/runs", json={"data_source": completions(ROWS)}).status_code == 404
        asked = {"model": f"eval:{created.id}", "messages": said("!tokens=1")}
        assert stranger.post("/v1/chat/completions", json=asked).json()["error"]["code"] == "model_not_found"
        assert stranger.get("/v1/evals").json()["data"] == []


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_a_judge_on_the_real_engine_says_nothing_but_a_label(stack: Stack):
    """Whatever a toy model thinks of an answer: its grammar holds it."""
    shown = [{"role": "user", "content": "Is this right? {{item.ask}} {{sample.output_text}}"}]
    label = {"type": "label_model", "name": "label", "model": "tram-demo", "input": shown, "labels": ["yes", "no"]}
    known = {"What is 6 times 7?": "42", "What is the capital of France?": "Paris"}
    rows = [{"item": {"ask": question, "wanted": wanted}} for question, wanted in known.items()]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as client:
        created = made(client, RIGHT, label | {"passing_labels": ["yes"]})
        asked = {"type": "template", "template": [{"role": "user", "content": "{{item.ask}}"}]}
        run = ran(client, created.id, completions(rows, input_messages=asked, model="tram-demo"), 120)
        found = items(client, run)
    assert [each.errored for each in run.per_testing_criteria_results] == [0, 0], [each.results for each in found]
    assert run.per_testing_criteria_results[0].passed == 2
    assert {each.results[1].sample["label"] for each in found} <= {"yes", "no"}
