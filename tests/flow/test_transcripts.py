"""Can conversations be found, named, taken out, deleted and brought back, as somebody outside would?  On both columns."""

import io
import json
import os
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from openai import OpenAI
from pyarrow import parquet
from sqlalchemy import create_engine, inspect, text

from models.packing import unpack
from tests.flow.production import BUCKET, Production
from tests.flow.stack import Stack, said, until
from tests.flow.test_conversations import ask, opening

EXPORT, IMPORT, LIST = "/v1/conversations/export", "/v1/conversations/import", "/v1/conversations"


def found(tram: Stack, **wanted: object) -> list[str]:
    return [row["id"] for row in tram.http.get(LIST, params=wanted).raise_for_status().json()["data"]]


def home(tram: Stack, job_id: str) -> str:
    return tram.ended(job_id)["conversation_id"]


def exported(tram: Stack, **wanted: object) -> bytes:
    answer = tram.http.get(EXPORT, params=wanted)
    assert answer.status_code == 200, answer.text
    return answer.content


def brought(tram: Stack, body: bytes, **wanted: object) -> dict:
    answer = tram.http.post(IMPORT, params=wanted, content=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_conversation_is_found_by_words_model_tag_status_metadata_and_time(tram: Stack):
    word, began = uuid4().hex, int(time.time())
    answer = tram.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "system", "content": word}, *said("!tokens=3")], "metadata": {"mark": word}},
        headers={"x-aig-tag": word},
    )
    name = home(tram, answer.headers["x-tram-job"])
    until(lambda: found(tram, text=word) == [name], 30)
    model = answer.json()["model"]
    for wanted in ({"text": f"TOKENS {word.upper()}"}, {"tag": word}, {"metadata[mark]": word}):
        assert found(tram, **wanted) == [name], wanted
    everything = {"text": word, "tag": word, "metadata[mark]": word, "model": model, "status": "completed"}
    assert found(tram, **everything, created_after=began, created_before=began + 600) == [name]
    assert found(tram, **everything, updated_after=began) == [name]
    for wrong in ({"status": "failed"}, {"model": "other"}, {"created_before": began}, {"text": f"{word} elephant"}):
        assert found(tram, **everything | wrong) == [], wrong
    assert name in found(tram, sort="updated_at")


@pytest.mark.parametrize(
    "query", ["'", '" OR ""=""', "a* NEAR b", "%00", "\x01", "🙂", "x" * 1000, "-", "\U0001d518\u202e"]
)
def test_a_hostile_query_is_words(tram: Stack, query: str):
    assert tram.http.get(LIST, params={"text": query}).status_code == 200


@pytest.mark.parametrize("query", ["\0", "x" * 1001, " ".join("abcdefghijklmnopqrstuvwxyz")])
def test_a_query_beyond_all_bounds_is_refused(tram: Stack, query: str):
    assert tram.http.get(LIST, params={"text": query}).status_code == 400


def test_a_name_of_the_clients_makes_a_conversation_and_finds_it_again(tram: Stack):
    name = uuid4().hex
    first, _ = ask(tram, opening(), conversation=name)
    other, _ = ask(tram, opening(), conversation=name)
    assert home(tram, first) == home(tram, other)
    (row,) = tram.http.get(LIST, params={"name": name}).json()["data"]
    assert (row["id"], row["name"]) == (home(tram, first), name)
    third, _ = ask(tram, opening(), conversation=row["id"])
    assert home(tram, third) == row["id"], "an id is a name, too"
    both = {"conversation": name, "conversation_id": row["id"]}
    assert tram.http.post("/v1/chat/completions", json={"messages": opening(), **both}).status_code == 400
    unknown = {"conversation": "conv_" + "0" * 26}
    assert tram.http.post("/v1/chat/completions", json={"messages": opening(), **unknown}).status_code == 404


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_title_and_metadata_can_be_changed(tram: Stack, method):
    job, _ = ask(tram, opening(), metadata={"a": "1"})
    name, word = home(tram, job), uuid4().hex
    changed = tram.http.request(method, f"{LIST}/{name}", json={"title": f"About {word}"}).raise_for_status().json()
    assert (changed["title"], changed["metadata"]) == (f"About {word}", {"a": "1"})
    assert found(tram, text=word) == [name], "at once"
    tram.http.request(method, f"{LIST}/{name}", json={"metadata": {"b": word}}).raise_for_status()
    assert found(tram, **{"metadata[b]": word}) == [name]
    assert tram.http.request(method, f"{LIST}/conv_x", json={"title": "x"}).status_code == 404
    assert tram.http.request(method, f"{LIST}/{name}", json={"titel": "x"}).status_code == 400


def test_openai_s_client_makes_reads_changes_and_deletes_one(tram: Stack):
    client = OpenAI(base_url=f"{tram.url}/v1", api_key=tram.key)
    made = client.conversations.create(metadata={"topic": "demo"})
    assert client.conversations.retrieve(made.id).metadata == {"topic": "demo"}
    asked = client.chat.completions.create(
        model=client.models.list().data[0].id, messages=opening(), extra_body={"conversation": made.id}
    )
    assert home(tram, asked.id.replace("chatcmpl-", "job_")) == made.id
    assert client.conversations.update(made.id, metadata={"topic": "other"}).metadata == {"topic": "other"}
    assert client.conversations.delete(made.id).deleted
    assert tram.http.get(f"{LIST}/{made.id}").status_code == 404


def test_branches_are_told_with_their_leaves_and_read_as_messages(tram: Stack):
    first, messages = ask(tram, opening())
    left, _ = ask(tram, [*messages, *said("!tokens=4")])
    right, whole = ask(tram, [*messages, *said("!tokens=5")])
    name = home(tram, right)
    tram.replayed(source_request_id=first, overrides={"max_tokens": 2})
    view = tram.http.get(f"{LIST}/{name}").json()
    assert [(each["leaf"], each["messages"], each["replay"]) for each in view["branches"]][:2] == [
        (left, 5, False),
        (right, 5, False),
    ]
    assert [each["replay"] for each in view["branches"]] == [False, False, True]
    assert [turn["parent_id"] for turn in view["turns"]][:3] == [None, first, first]
    path = f"{LIST}/{name}/messages"
    shown = tram.http.get(path).json()
    assert (shown["leaf"], [each["content"] for each in shown["data"]]) == (right, [each["content"] for each in whole])
    assert len(tram.http.get(path, params={"leaf": first}).json()["data"]) == 3
    assert tram.http.get(path, params={"leaf": left, "choice": 1}).status_code == 400
    ask(tram, [*shown["data"], *said("!tokens=1")])  # as they are, they go on


def test_what_a_replay_needs_is_kept(tram: Stack):
    asked = {"seed": 7, "temperature": 0.25, "top_p": 0.5, "max_tokens": 40, "logprobs": True, "top_logprobs": 1}
    job, _ = ask(tram, opening(), **asked)
    name = home(tram, job)
    (turn,) = next(
        each["tramontane"]["turns"]
        for each in map(json.loads, exported(tram).splitlines())
        if each["tramontane"]["conversation"]["id"] == name
    )
    assert {key: turn["parameters"][key] for key in asked} == asked
    assert turn["usage"]["completion_tokens"] == 3
    assert turn["created_ms"] <= turn["started_ms"] <= turn["first_token_ms"] <= turn["ended_ms"]
    assert turn["model"] == tram.job(job)["model"]


def test_deleted_means_gone(tram: Stack, column: str, request: pytest.FixtureRequest):
    """By the bytes of the database and of the object store."""
    secret, large = f"secret{uuid4().hex}", f"large{uuid4().hex}"
    job, messages = ask(tram, [{"role": "system", "content": secret}, *said("!tokens=3")])
    ask(tram, [*messages, {"role": "system", "content": secret}, *said("!tokens=4")], metadata={"told": secret})
    big, _ = ask(
        tram, [*messages, {"role": "system", "content": large}, *said("!tokens=6000 stamp")], conversation=secret
    )
    name, other = home(tram, job), home(tram, big)
    until(lambda: found(tram, text=secret) != [], 30)
    kept = objects(tram, column, request)
    assert any(big in path for path in kept), "so much is an object"
    assert secret in database(tram, column, request)
    for each in (name, other):
        answer = tram.http.delete(f"{LIST}/{each}")
        assert (answer.status_code, answer.json()["deleted"]) == (200, True)
        assert tram.http.get(f"{LIST}/{each}").status_code == 404
    assert found(tram, text=secret) == []
    left = database(tram, column, request)
    assert secret not in left
    assert large not in left
    assert not any(big in path for path in objects(tram, column, request))
    assert tram.http.delete(f"{LIST}/{name}").status_code == 404


def test_a_completion_that_was_deleted_alone_is_gone_too(tram: Stack, column: str, request: pytest.FixtureRequest):
    secret = f"secret{uuid4().hex}"
    job, _ = ask(tram, [{"role": "system", "content": secret}, *said("!tokens=3")])
    until(lambda: found(tram, text=secret) != [], 30)
    assert secret in database(tram, column, request)
    tram.http.delete(f"/v1/chat/completions/{job.replace('job_', 'chatcmpl-')}").raise_for_status()
    until(lambda: secret not in database(tram, column, request), 30)


def database(tram: Stack, column: str, request: pytest.FixtureRequest) -> str:
    """Of SQLite all bytes of its files; of Postgres, whose files keep a row's bytes until they are used again, what can be read."""
    if column == "embedded":
        files = (tram.folder / "data").glob("tramontane.db*")
        return "".join(file.read_bytes().decode(errors="replace") for file in files)
    engine = create_engine(request.getfixturevalue("parts").database.url())
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        rows = [row for name in tables for row in connection.execute(text(f'SELECT * FROM "{name}"'))]
    engine.dispose()
    return "\n".join(_read(value) for row in rows for value in row)


def _read(value: object) -> str:
    with suppress(ValueError):  # bytes of another kind: hashes, which may begin in any way
        return str(unpack(value) if isinstance(value, bytes) else value)
    return str(value)


def objects(tram: Stack, column: str, request: pytest.FixtureRequest) -> list[str]:
    folder = tram.folder / "data" / "objects" if column == "embedded" else request.getfixturevalue("parts").objects
    return [str(path) for path in Path(folder).rglob("*") if path.is_file()]


@pytest.mark.parametrize("named", [True, False])
def test_a_conversation_that_a_running_job_goes_on_with_is_not_deleted(tram: Stack, named: bool):
    job, messages = ask(tram, opening())
    name = home(tram, job)
    how = {"messages": said("!hang"), "conversation_id": name} if named else {"messages": [*messages, *said("!hang")]}
    held = tram.http.post("/v1/jobs", json=how).raise_for_status().json()["id"]
    assert tram.http.delete(f"{LIST}/{name}").status_code == 409
    tram.http.delete(f"/v1/jobs/{held}").raise_for_status()
    tram.ended(held)
    assert tram.http.delete(f"{LIST}/{name}").status_code == 200


@pytest.fixture
def talk(tram: Stack) -> tuple[str, str]:
    """A conversation with two branches, a tool and choices, and the word by which it is found."""
    word = uuid4().hex
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    _, messages = ask(tram, [{"role": "system", "content": word}, *said("!tokens=3")], n=2, tools=[tool])
    ask(tram, [*messages, *said("!tokens=4")], metadata={"word": word}, tools=[tool])
    job, _ = ask(tram, [*messages, *said("!tokens=5")], temperature=0.1)
    name = home(tram, job)
    until(lambda: found(tram, text=word) == [name], 30)
    return name, word


@pytest.mark.parametrize("form", ["openai", "parquet"])
def test_out_deleted_and_in_again_is_the_same_to_the_byte(tram: Stack, talk: tuple[str, str], form: str):
    name, word = talk
    before, file = exported(tram, text=word), exported(tram, text=word, format=form)
    assert len(before.splitlines()) == 2, "two choices that say the same are one branch"
    tram.http.delete(f"{LIST}/{name}").raise_for_status()
    assert exported(tram, text=word) == b""
    result = brought(tram, file, format=form)
    assert (result["conversations"], result["held"]) == (1, 0)
    until(lambda: found(tram, text=word) == [name], 30)
    assert exported(tram, text=word) == before
    assert brought(tram, file, format=form)["held"] == 2
    view = tram.http.get(f"{LIST}/{name}").json()
    assert {turn["imported"] for turn in view["turns"]} == {True}
    assert {turn["id"] for turn in view["turns"]} <= {job["id"] for job in tram.listed("/v1/jobs", door="import")}
    again = tram.replayed(source_conversation_id=name)
    assert again["status"] == "completed"
    assert again["verdicts"]["identical"] >= 1, "where two choices said the same, one came back"


@pytest.mark.parametrize("form", ["openai", "parquet"])
def test_a_record_with_pictures_may_be_larger_than_a_request(tram: Stack, form: str):
    word = uuid4().hex
    picture = "data:image/png;base64," + b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(5 << 20)).decode()
    parts = [{"type": "text", "text": word}, {"type": "image_url", "image_url": {"url": picture}}]
    record = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "A dot."}]}
    assert brought(tram, json.dumps(record).encode())["turns"] == 1
    until(lambda: len(found(tram, text=word)) == 1, 30)
    (name,) = found(tram, text=word)
    file = exported(tram, text=word, format=form)
    tram.http.delete(f"{LIST}/{name}").raise_for_status()
    assert brought(tram, file, format=form)["turns"] == 1


def test_a_model_without_a_name_is_refused(tram: Stack):
    record = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    assert tram.http.post(IMPORT, params={"model": ""}, content=record).status_code == 400


def test_sharegpt_is_an_array_that_can_be_read_and_brought(tram: Stack, talk: tuple[str, str]):
    name, word = talk
    file = exported(tram, text=word, format="sharegpt")
    rows = json.loads(file)
    assert [each["from"] for each in rows[1]["conversations"]] == ["system", "human", "gpt", "human", "gpt"]
    assert {row["id"] for row in rows} == {name}
    assert json.loads(exported(tram, text=uuid4().hex, format="sharegpt")) == []
    tram.http.delete(f"{LIST}/{name}").raise_for_status()
    assert brought(tram, file, format="sharegpt")["conversations"] == 2


def test_parquet_has_columns_that_others_read(tram: Stack, talk: tuple[str, str]):
    name, word = talk
    sheet = parquet.read_table(io.BytesIO(exported(tram, text=word, format="parquet")))
    assert sheet.num_rows == 2
    row = sheet.to_pylist()[1]
    assert (row["conversation_id"], row["messages"][0]["role"]) == (name, "system")
    assert row["messages"][0]["content"] == word


@pytest.mark.parametrize(
    ("body", "form", "says"),
    [
        (b"", "openai", "no record"),
        (b'{"messages": [{"role": "user", "content": "WORD"}]}\n{"messages"', "openai", "line 2"),
        (b'{"messages": [{"role": "user", "content": "WORD"}]}\n\n{"messages": 1}', "openai", "line 3: messages"),
        (b'[{"conversations": [{"from": "human", "value": "WORD"}]},\n{"x": 1}]', "sharegpt", "line 2"),
        (b'[{"conversations": [{"from": "human", "value": "WORD"}]}', "sharegpt", "breaks off"),
        (b"PAR1", "parquet", "Parquet"),
    ],
)
def test_a_file_with_a_mistake_names_the_line_and_brings_nothing(tram: Stack, body: bytes, form: str, says: str):
    word = uuid4().hex
    answer = tram.http.post(IMPORT, params={"format": form}, content=body.replace(b"WORD", word.encode()))
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert word.encode() not in exported(tram)


def test_the_command_line_takes_out_and_brings_in(tram: Stack, talk: tuple[str, str], tmp_path: Path):
    name, word = talk
    file = tmp_path / "talk.jsonl"
    tram.command("conversations", "export", "-o", str(file), "--text", word)
    assert file.read_bytes() == exported(tram, text=word)
    tram.http.delete(f"{LIST}/{name}").raise_for_status()
    assert "1 conversations" in tram.command("conversations", "import", str(file))
    assert tram.http.get(f"{LIST}/{name}").status_code == 200
    assert "2 records were here already" in tram.command("conversations", "import", str(file))


def test_an_export_goes_to_a_bucket(production: Stack, parts: Production):
    word = uuid4().hex
    ask(production, [{"role": "system", "content": word}, *said("!tokens=3")])
    until(lambda: found(production, text=word) != [], 30)
    production.command(
        "conversations", "export", "-o", f"s3://{BUCKET}/out/all.parquet", "--text", word, "--format", "parquet"
    )
    assert parquet.read_table(parts.objects / "out" / "all.parquet").num_rows == 1
