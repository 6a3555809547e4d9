"""Strangers answer in every way they can think of; what is made of it?"""

import asyncio
import contextlib
import datetime as dt
import gzip
import socket
import ssl
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import outbound
from infra.outbound import Reason
from tests.fakes.receiver import HANG, Receiver, Reply
from tests.infra.conftest import LOOPBACK, calling, reason_of


@pytest.fixture
async def client():
    async with calling(LOOPBACK) as running:
        yield running


@contextlib.asynccontextmanager
async def raw_server(talk):
    """A server that reads a request's head and then does as `talk(reader, writer)` says.  Yields its URL and the calls so far."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", tasks
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(text: bytes):
    async def talk(reader, writer):
        writer.write(text)
        await writer.drain()

    return talk


# What goes out


async def test_what_is_sent_arrives_as_it_is(client, receiver):
    body = b'{"text": "\xc3\xa4"}' + b"x" * 70_000
    answer = await client.post(receiver.url + "?q=1", body, {"webhook-id": "evt_1"})
    sent = await receiver.next()
    assert (sent.method, sent.path, sent.body, answer.status) == ("POST", "/hook?q=1", body, 204)
    assert sent.headers["webhook-id"] == "evt_1"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["user-agent"] == "Tramontane"
    assert 0 <= answer.duration_ms < 10_000


async def test_connections_are_used_again(client, receiver):
    receiver.script(Reply(200, b"short"), Reply(204), Reply(500, b"x" * 100))
    for _ in range(4):
        await client.post(receiver.url, b"{}", {})
    assert len({sent.peer for sent in receiver.seen}) == 1


async def test_cookies_are_not_kept(client, receiver):
    receiver.script(Reply(200, headers={"Set-Cookie": "who=me; Path=/"}))
    await client.post(receiver.url, b"{}", {})
    await client.post(receiver.url, b"{}", {})
    assert "cookie" not in receiver.seen[1].headers


async def test_the_environments_proxy_is_not_used(receiver, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with calling(LOOPBACK) as client:
        assert (await client.post(receiver.url, b"{}", {})).status == 204


async def test_headers_cannot_be_smuggled(client, receiver):
    with pytest.raises(ValueError, match="header injection"):
        await client.post(receiver.url, b"{}", {"X-One": "a\r\nX-Two: b"})
    assert receiver.seen == []


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 303, 307, 308, 400, 404, 410, 429, 500, 503])
async def test_every_status_is_an_answer_and_redirects_are_not_followed(client, receiver, status):
    receiver.script(Reply(status, headers={"Location": receiver.url}))
    assert (await client.post(receiver.url, b"{}", {})).status == status
    assert len(receiver.seen) == 1


async def test_an_excerpt_is_text_that_any_database_takes(client, receiver):
    receiver.script(Reply(500, b"a\0b\xff\xfe\xed\xa0\x80c"))
    excerpt = (await client.post(receiver.url, b"{}", {})).excerpt
    assert "\0" not in excerpt
    assert (excerpt[:2], excerpt[-1]) == ("a\ufffd", "c")
    excerpt.encode("utf-8")


async def test_an_excerpt_has_two_kibibytes_at_most(client, receiver):
    receiver.script(Reply(200, b"y" * 2048), Reply(200, b"x" * 100_000))
    assert (await client.post(receiver.url, b"{}", {})).excerpt == "y" * 2048
    assert (await client.post(receiver.url, b"{}", {})).excerpt == "x" * 2048


async def test_an_endless_body_is_left_after_the_excerpt(client):
    gone = asyncio.Event()

    async def talk(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
                await writer.drain()
        except OSError:
            gone.set()

    async with raw_server(talk) as (url, _):
        assert (await client.post(url, b"{}", {})).excerpt == "z" * 2048
        async with asyncio.timeout(10):
            await gone.wait()


async def test_a_compressed_bomb_stays_packed(client):
    bomb = gzip.compress(b"\0" * (4 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with raw_server(saying(head + bomb)) as (url, _):
        answer = await client.post(url, b"{}", {})
    assert (answer.status, answer.excerpt[0], answer.excerpt[2]) == (200, "\x1f", "\x08")  # gzip's first bytes
    assert len(answer.excerpt) <= 2048


async def test_a_body_that_breaks_off_or_dawdles_does_not_undo_its_status(client):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun"

    async def dawdle(reader, writer):
        writer.write(head)
        await asyncio.Event().wait()

    for talk in (saying(head), dawdle):
        async with raw_server(talk) as (url, _):
            answer = await client.post(url, b"{}", {}, timeout_s=1.5)
            assert (answer.status, answer.excerpt) == (200, "begun")


async def test_an_answer_before_the_request_was_read_is_an_answer_and_frees_the_connection(client):
    left = asyncio.Event()

    async def talk(reader, writer):
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        with contextlib.suppress(OSError):
            while await reader.read(1 << 20):
                pass
        left.set()

    async with raw_server(talk) as (url, _):
        assert (await client.post(url, b"x" * (900 << 10), {})).status == 413
        await client.close()
        async with asyncio.timeout(10):
            await left.wait()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0), ("999999999", 999_999_999.0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0)),
        *(("", None), ("-1", None), ("1.5", None), ("soon", None), ("9" * 5000, None), ("NaN", None), ("\xb2", None)),
        *(("Mon, 01 Jan 99999 00:00:00 GMT", None), ("Mon, 99 Jan 2001 00:00:00 GMT", None)),
        *(("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None), ("Mon, 01 Jan 2001 00:00:00 +99999999999999", None)),
    ],
)
async def test_retry_after(client, receiver, header, seconds):
    receiver.script(Reply(503, headers={"Retry-After": header}))
    assert (await client.post(receiver.url, b"{}", {})).retry_after_s == seconds


async def test_retry_after_as_a_date(client, receiver):
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100)
    receiver.script(Reply(429, headers={"Retry-After": at.strftime("%a, %d %b %Y %H:%M:%S GMT")}))
    retry_after_s = (await client.post(receiver.url, b"{}", {})).retry_after_s
    assert retry_after_s is not None
    assert 90 < retry_after_s <= 100


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d( GMT| [+-]\d{4,6})?"))
@settings(deadline=None)
def test_no_retry_after_breaks_the_reader(header):
    seconds = outbound._retry_after_s(header)
    assert seconds is None or 0 <= seconds < 1e12


# No answer


async def test_a_silent_server_times_out(client, receiver):
    receiver.script(HANG)
    assert await reason_of(client, receiver.url, timeout_s=0.2) is Reason.TIMEOUT


async def test_many_silent_servers_do_not_keep_a_quick_one_waiting(client, receiver):
    spoken = asyncio.Event()
    receiver.script(*[Reply(after=spoken)] * 110)  # aiohttp's own limit is 100 connections
    silent = [asyncio.create_task(client.post(receiver.url, b"{}", {}, timeout_s=60)) for _ in range(110)]
    for _ in silent:
        await receiver.next()
    assert (await client.post(receiver.url, b"{}", {})).status == 204
    spoken.set()
    assert {answer.status for answer in await asyncio.gather(*silent)} == {204}


async def test_headers_that_trickle_time_out(client):
    async def talk(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_server(talk) as (url, _):
        assert await reason_of(client, url, timeout_s=0.4) is Reason.TIMEOUT


async def test_a_port_that_accepts_but_never_speaks_tls_times_out(client):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        assert await reason_of(client, url, timeout_s=0.2) is Reason.TIMEOUT


@pytest.mark.parametrize(
    "text",
    [
        *(b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 OK\r\n\r\n", b"\0\1\2\3\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_as_such(client, text):
    async with raw_server(saying(text)) as (url, _):
        assert await reason_of(client, url) is Reason.PROTOCOL


async def test_a_connection_that_is_dropped_is_told_as_such(client):
    async with raw_server(saying(b"")) as (url, _):
        assert await reason_of(client, url) is Reason.CONNECT


async def test_a_port_where_nobody_listens(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await reason_of(client, f"http://127.0.0.1:{port}/") is Reason.CONNECT


@pytest.mark.parametrize("host", ["nothing.invalid", "a" * 64 + ".invalid", "xn--zzzzzzzz.invalid", "a..invalid"])
async def test_names_without_addresses(client, host):
    assert await reason_of(client, f"http://{host}/") in {Reason.DNS, Reason.REFUSED}


# TLS


def certificate(host, folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return path, context


async def test_a_certificate_is_checked_and_one_that_the_machine_trusts_passes(client, tmp_path, monkeypatch):
    path, context = certificate("127.0.0.1", tmp_path)
    async with Receiver(tls=context) as receiver:
        url = receiver.url.replace("http:", "https:")
        assert await reason_of(client, url) is Reason.TLS
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        async with calling(LOOPBACK) as trusting:
            assert (await trusting.post(url, b"{}", {})).status == 204


async def test_a_certificate_for_another_name_is_refused(tmp_path, monkeypatch):
    path, context = certificate("127.0.0.2", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with Receiver(tls=context) as receiver, calling(LOOPBACK) as client:
        assert await reason_of(client, receiver.url.replace("http:", "https:")) is Reason.TLS


async def test_plain_text_on_a_tls_port_is_told_as_such(client, receiver):
    assert await reason_of(client, receiver.url.replace("http:", "https:")) is Reason.TLS
