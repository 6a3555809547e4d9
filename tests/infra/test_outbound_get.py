"""What lies at a stranger's address comes whole or not at all, and its way there leads past the gate at every turn."""

import asyncio
import gzip
from ipaddress import ip_network

import pytest

from infra.outbound import REDIRECTS_MOST, Found, Reason, Unreachable
from tests.fakes.receiver import HANG, Receiver, Reply
from tests.infra.conftest import LOOPBACK, calling

MOST = 1 << 20
ELSEWHERE = "127.0.0.2"


@pytest.fixture
async def client():
    async with calling(LOOPBACK) as running:
        yield running


def to(url):
    return Reply(302, headers={"Location": url})


async def reason(client, url, within_s=5.0):
    with pytest.raises(Unreachable) as caught:
        await client.get(url, MOST, within_s)
    return caught.value.reason


async def test_it_comes_as_it_is(client, receiver):
    receiver.script(Reply(200, b"x" * 700_000), Reply(404, b"none"))
    assert await client.get(receiver.url + "?v=2", MOST, 5) == Found(200, b"x" * 700_000)
    assert await client.get(receiver.url, MOST, 5) == Found(404, b"none")
    sent = receiver.seen[0]
    assert (sent.method, sent.path, sent.body) == ("GET", "/hook?v=2", b"")
    assert "content-type" not in sent.headers
    assert sent.headers["accept-encoding"] == "identity"


async def test_not_a_byte_more_than_was_asked_for(client, receiver):
    receiver.script(Reply(200, b"x" * MOST), Reply(200, b"x" * (MOST + 1)))
    assert (await client.get(receiver.url, MOST, 5)).body == b"x" * MOST
    assert (await client.get(receiver.url, MOST, 5)).body is None


async def test_what_says_no_length_is_left_where_it_gets_too_long(client, streamer):
    url, left = streamer
    assert (await client.get(url, MOST, 5)).body is None
    async with asyncio.timeout(10):
        await left.wait()


@pytest.fixture
async def streamer():
    """A server that never stops.  Yields its URL, and what is set once its caller has left."""
    left = asyncio.Event()

    async def talk(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"z" * 65536 + b"\r\n")
                await writer.drain()
        except OSError:
            left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", left
    server.close()


async def test_a_compressed_bomb_stays_packed(client, receiver):
    bomb = gzip.compress(b"\0" * (64 << 20))
    receiver.script(Reply(200, bomb, headers={"Content-Encoding": "gzip"}))
    assert (await client.get(receiver.url, MOST, 5)).body == bomb


async def test_it_may_lie_a_few_redirects_further_but_not_many(client, receiver):
    receiver.script(*[to(receiver.url)] * REDIRECTS_MOST, Reply(200, b"here"))
    assert (await client.get(receiver.url, MOST, 5)).body == b"here"
    receiver.script(*[to(receiver.url)] * (REDIRECTS_MOST + 1), Reply(200, b"here"))
    assert await reason(client, receiver.url) is Reason.PROTOCOL


@pytest.mark.parametrize("host", [ELSEWHERE, "2130706434", "[::ffff:127.0.0.2]", "localtest.invalid"])
async def test_no_redirect_leads_where_one_may_not_go(receiver, host):
    """The second server may be reached by nobody; the first may."""
    async with Receiver(host=ELSEWHERE) as private, calling((ip_network("127.0.0.1/32"),)) as client:
        receiver.script(to(private.url.replace(ELSEWHERE, host)))
        assert await reason(client, receiver.url) in {Reason.REFUSED, Reason.DNS}
        assert private.seen == []
    assert len(receiver.seen) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "http://[a]@"])
async def test_a_redirect_out_of_the_web_is_not_followed(client, receiver, url):
    receiver.script(to(url))
    assert await reason(client, receiver.url) in {Reason.REFUSED, Reason.PROTOCOL}


async def test_one_clock_over_all_of_it(client, receiver):
    receiver.script(to(receiver.url), HANG)
    assert await reason(client, receiver.url, 0.3) is Reason.TIMEOUT


async def test_what_breaks_off_has_not_come(client):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await reason(client, url) in {Reason.PROTOCOL, Reason.CONNECT}
