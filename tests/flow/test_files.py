"""Do files come and go whole, without being held in memory, and leave nothing behind?  On both columns, by openai-python and by hand."""

import hashlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import aigateway
import httpx2
import openai
import pytest

from tests.flow.engine import tokens
from tests.flow.production import BUCKET, Production
from tests.flow.stack import Stack, until

ROWS = b'{"custom_id": "a"}\n{"custom_id": "b"}\n'
LARGE_MIB = 150
HELD_MIB = 40
"""What the API may grow by while more flows through: pieces on their way, both ways, and S3's parts."""


@pytest.fixture
def client(tram: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tram.url}/v1", api_key=tram.key, max_retries=0) as made:
        yield made


def upload(stack: Stack, data: bytes = ROWS, **fields: str) -> httpx2.Response:
    form = {"purpose": "batch"} | fields
    return stack.http.post("/v1/files", files={"file": ("rows.jsonl", data)}, data=form)


def objects(request: pytest.FixtureRequest, stack: Stack) -> set[str]:
    """The names of the bytes that are kept, in whichever store the stack has."""
    production = stack.folder.name.startswith("production")
    parts: Production | None = request.getfixturevalue("parts") if production else None
    root: Path = parts.objects / "kept" if parts else stack.folder / "data" / "objects"
    assert parts is None or parts.objects.name == BUCKET
    return {path.name for path in (root / "files").rglob("*") if path.is_file()}


def test_as_openai_documents_it(client):
    made = client.files.create(file=("rows.jsonl", ROWS), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(ROWS), "rows.jsonl", "batch")
    assert made.status == "processed"
    assert made.expires_at == made.created_at + 30 * 86_400, "a batch's file, where nobody says"
    assert client.files.retrieve(made.id) == made
    assert made in list(client.files.list(purpose="batch"))
    assert made not in list(client.files.list(purpose="evals"))
    assert client.files.content(made.id).read() == ROWS
    assert client.files.delete(made.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_an_expiry_is_as_asked_for(client):
    after = {"anchor": "created_at", "seconds": 3600}
    made = client.files.create(file=b"{}", purpose="evals", expires_after=after)
    assert made.expires_at == made.created_at + 3600
    assert client.files.create(file=b"{}", purpose="user_data").expires_at is None


def test_pages_go_on_where_they_ended(client):
    made = [client.files.create(file=("x", b"%d" % number), purpose="vision").id for number in range(5)]
    listed = [file.id for file in client.files.list(purpose="vision", limit=2) if file.id in made]
    assert listed == made[::-1]
    assert [f.id for f in client.files.list(purpose="vision", limit=2, order="asc") if f.id in made] == made


def test_a_large_file_flows_through(tram):
    mebibyte = bytes(range(256)) * 4096
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    tail = b'\r\n--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--B--\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(LARGE_MIB):
            yield mebibyte
        yield tail

    upload(tram, mebibyte)
    before = _peak_mib(tram)
    made = tram.http.post("/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=B"})
    assert made.status_code == 200, made.text
    assert made.json()["bytes"] == LARGE_MIB << 20
    wanted, got = hashlib.blake2b(), hashlib.blake2b()
    with tram.http.stream("GET", f"/v1/files/{made.json()['id']}/content") as answer:
        assert answer.headers["content-length"] == str(LARGE_MIB << 20)
        for piece in answer.iter_bytes():
            got.update(piece)
    for _ in range(LARGE_MIB):
        wanted.update(mebibyte)
    assert got.digest() == wanted.digest()
    assert _peak_mib(tram) - before < HELD_MIB
    tram.http.delete(f"/v1/files/{made.json()['id']}").raise_for_status()


def _peak_mib(stack: Stack) -> float:
    status = Path(f"/proc/{stack.processes()['api']}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "nothing"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "ended_at", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_form_is_refused_by_name_and_leaves_nothing(request, tram, fields, param):
    before = objects(request, tram)
    answer = upload(tram, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    until(lambda: objects(request, tram) <= before, 20)


def test_what_is_no_form_is_refused(tram):
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300):
        answer = tram.http.post("/v1/files", content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Content-Type"), answer.text
    assert tram.http.post("/v1/files", data={"purpose": "batch"}).status_code == 400
    without = tram.http.post("/v1/files", files={"file": ("x", b"{}")})
    assert (without.status_code, without.json()["error"]["param"]) == (400, "purpose")


def test_one_that_is_too_large_is_refused_before_it_comes(tram):
    with socket.create_connection(("127.0.0.1", tram.port), 20) as line:
        line.sendall(_head(tram, 600 << 20))
        told = ""
        while "}}" not in told:
            told += line.recv(65536).decode()
    assert " 413 " in told.splitlines()[0]
    error = json.loads(told.partition("\r\n\r\n")[2])["error"]
    assert (error["code"], error["param"], error["type"]) == ("request_too_large", "file", "invalid_request_error")


def test_one_that_breaks_off_leaves_nothing(request, embedded):
    before, listed = objects(request, embedded), embedded.listed("/v1/files")
    with socket.create_connection(("127.0.0.1", embedded.port), 20) as line:
        line.sendall(_head(embedded, 100 << 20) + b"x" * (20 << 20))
        until(lambda: embedded.rows("SELECT id FROM files WHERE state = 'uploading'"), 20)
    until(lambda: not embedded.rows("SELECT id FROM files WHERE state = 'uploading'"), 20)
    assert embedded.listed("/v1/files") == listed
    until(lambda: objects(request, embedded) <= before, 20)
    assert not [*(embedded.folder / "data" / "objects" / ".staging").iterdir()]


def _head(stack: Stack, size: int) -> bytes:
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {size}\r\n\r\n"
        '--B\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    )
    return head.encode()


def test_the_bytes_go_with_the_file(request, tram):
    made = upload(tram).json()["id"]
    assert made in objects(request, tram)
    tram.http.delete(f"/v1/files/{made}").raise_for_status()
    until(lambda: made not in objects(request, tram), 20)


def test_one_that_expires_goes(request, embedded):
    made = upload(embedded).json()["id"]
    with closing(sqlite3.connect(embedded.folder / "data" / "tramontane.db", isolation_level=None, timeout=20)) as own:
        own.execute("UPDATE files SET expires_ms = 1, due_ms = 1 WHERE id = ?", (made,))
    assert embedded.http.get(f"/v1/files/{made}").status_code == 404
    until(lambda: made not in objects(request, embedded), 20)
    until(lambda: not embedded.rows(f"SELECT id FROM files WHERE id = '{made}'"), 20)


def test_an_api_that_dies_in_an_upload_leaves_nothing_listed(request, faulty):
    listed = faulty.listed("/v1/files")
    with socket.create_connection(("127.0.0.1", faulty.port), 20) as line:
        line.sendall(_head(faulty, 100 << 20) + b"x" * (20 << 20))
        until(lambda: faulty.rows("SELECT id FROM files WHERE state = 'uploading'"), 20)
        faulty.restarted("api", faulty.kill("api"))
    assert faulty.listed("/v1/files") == listed
    assert objects(request, faulty) == set()
    ((due, created),) = faulty.rows("SELECT due_ms, created_ms FROM files WHERE state = 'uploading'")
    assert due > created, "upkeep gives it up"


def test_aigateways_client_downloads_what_a_job_has_made(tram):
    job = tram.ended(tram.submit("!tokens=3"))
    with aigateway.AIgateway(api_key=tram.key, base_url=tram.url, media_base_url=tram.url) as gateway:
        assert json.loads(gateway.files.download(job["id"], "result.json")) == job["result"]
        assert gateway.files.download(job["id"], "answer.txt") == tokens(3).encode()
        link = gateway.files.signed_url(job["id"], "answer.txt", expires_in=60)
        with pytest.raises(aigateway.AIgatewayError) as caught:
            gateway.files.download(job["id"], "picture.png")
    assert (caught.value.status_code, link["expires_in"]) == (404, 60)
    assert httpx2.get(link["url"], trust_env=False).text == tokens(3)
    for wrong in (
        link["url"][:-1],
        link["url"].replace("expires=1", "expires=2"),
        link["url"].replace(".txt", ".json"),
    ):
        refused = httpx2.get(wrong, trust_env=False)
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error"), wrong


def test_an_upload_made_twice_is_made_once(tram):
    def send(data: bytes, key: str) -> httpx2.Response:
        file = {"file": ("rows.jsonl", data)}
        return tram.http.post("/v1/files", files=file, data={"purpose": "evals"}, headers={"Idempotency-Key": key})

    key = uuid4().hex
    first, again, other = send(ROWS, key), send(ROWS, key), send(b"{}", key)
    assert first.json() == again.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert [file["id"] for file in tram.listed("/v1/files", purpose="evals")].count(first.json()["id"]) == 1


def test_what_is_another_accounts_is_not_there(tram):
    made = upload(tram).json()["id"]
    key = tram.command("keys", "create", "--account", "files of somebody else")
    with tram.client(key) as other:
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert other.request(method, f"/v1/files/{made}{path}").status_code == 404
        assert other.get("/v1/files").json()["data"] == []
    assert tram.http.get(f"/v1/files/{made}").status_code == 200
