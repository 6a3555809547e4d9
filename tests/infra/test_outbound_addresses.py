"""Which addresses may strangers make us call, however they spell, name or dress them?"""

import asyncio
import contextlib
import socket
import threading
from ipaddress import IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import addresses
from infra.addresses import permitted
from infra.outbound import Reason, Unreachable, check_url
from models.errors import InvalidRequest
from tests.fakes.receiver import Reply
from tests.infra.conftest import LOOPBACK, calling, reason_of

_CLOSED = """
    0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1
    64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254
    fe80::1 fe80::1%eth0 fec0::1 ff02::1 4000::1
    localhost 127.1 1.2.3.4.5 example.com 1:2
"""
_OPEN = """
    1.1.1.1 8.8.8.8 172.15.255.255 172.32.0.1 100.128.0.1 168.63.129.17 223.255.255.255
    2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808
"""
_PRIVATE_URLS = """
    http://127.0.0.1/ http://127.1:80/ http://2130706433/ http://0x7f.0.0.1/ http://0177.0.0.1/ http://0/ http://127.0.0.1./
    http://[::1]/ http://[::]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[64:ff9b::7f00:1]/ http://[fe80::1]/
    https://169.254.169.254/latest/meta-data/ http://10.0.0.1/ http://100.100.100.200/ http://localhost:3000/
    http://\uff11\uff12\uff17.0.0.1/ http://127\u30020\u30020\u30021/
"""
_BAD_URLS = """
    example.com //example.com/a ftp://example.com file:///etc/passwd javascript:alert(1) ws://example.com http:example.com
    gopher://example.com:6379/_PING unix:///var/run/docker.sock data:text/plain,x http:/example.com
    http:// http:///a https://:443/ http://[::1 http://[::1]x/ http://[not-an-ip]/ http://example.com:99999/ http://example.com:x/
    http://user:secret@example.com/ http://user@example.com/ http://:secret@example.com/ http://a\\@b/
    http://[]@ http://[a]@/ http://a[b]@?c
"""
PRIVATE_URLS = _PRIVATE_URLS.split()
LOCAL_NAMES = ["http://LOCALHOST./", "http://a.localhost/"]  # not every resolver knows them
BAD_URLS = [
    *_BAD_URLS.split(),
    *("", " http://example.com/", "http://exa mple.com/", "http://example.com/\r\nX: y", "http://example.com/\0"),
    *("http://example.com/\u2028", "http://" + "a" * 2050 + ".com/", "http://example.com/" + "a" * 2048),
]


@pytest.fixture
async def strict():
    async with calling(()) as running:
        yield running


@pytest.mark.parametrize("address", ["", *_CLOSED.split()])
def test_addresses_that_strangers_may_not_name(address):
    assert not permitted(address)


@pytest.mark.parametrize("address", _OPEN.split())
def test_addresses_that_strangers_may_name(address):
    assert permitted(address)


@given(st.ip_addresses())
@settings(deadline=None)
def test_no_address_is_permitted_that_python_calls_anything_but_global(address):
    inner = addresses._unwrapped(address)
    if permitted(str(address)):
        assert inner.is_global


@given(st.ip_addresses(v=4))
@settings(deadline=None)
def test_no_disguise_makes_an_address_more_welcome(address):
    number = int(address)
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):  # mapped, NAT64: the inner address decides
        assert permitted(str(IPv6Address(prefix | number))) == permitted(str(address))
    for prefix in (0, 0xFFFF << 48):  # forms that no network carries
        assert not permitted(str(IPv6Address(prefix | number)))
    assert not permitted(str(IPv6Address(0x2002 << 112 | number << 80)))  # 6to4


def test_what_the_operator_allows_is_permitted_in_any_disguise():
    allow = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert all(permitted(address, allow) for address in ("10.9.8.7", "::ffff:10.9.8.7", "64:ff9b::a09:807", "fd00::1"))
    assert not any(
        permitted(address, allow) for address in ("127.0.0.1", "192.168.0.1", "::1", "fe80::1", "::ffff:127.0.0.1")
    )


@pytest.mark.parametrize("url", BAD_URLS)
async def test_what_is_no_url_is_not_called(strict, url):
    assert await reason_of(strict, url) is Reason.REFUSED


@pytest.mark.parametrize("url", PRIVATE_URLS)
async def test_private_addresses_are_not_called_however_they_are_spelled(strict, url):
    assert await reason_of(strict, url) is Reason.REFUSED


@pytest.fixture
def names(monkeypatch):
    """A name server that answers what the test says, for names under .test; everything else is left to the system."""
    table, system = {}, socket.getaddrinfo

    def look_up(host, port, *more):
        if host not in table:
            return system(host, port, *more)
        found = table[host]
        addresses = found.pop(0) if isinstance(found[0], tuple) else found
        return [each for address in addresses for each in system(address, port, *more)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


async def test_a_name_for_a_private_address_is_refused_and_nobody_is_called(strict, receiver, names):
    names["inside.test"] = ["127.0.0.1"]
    assert await reason_of(strict, f"http://inside.test:{receiver.port}/") is Reason.REFUSED
    assert receiver.seen == []


async def test_all_addresses_of_a_name_are_judged(strict, receiver, names):
    names["many.test"] = ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"]
    assert await reason_of(strict, f"http://many.test:{receiver.port}/") is Reason.REFUSED
    assert receiver.seen == []


async def test_a_permitted_address_behind_a_refused_one_is_reached(receiver, names):
    names["both.test"] = ["127.0.0.2", "127.0.0.1"]
    async with calling((ip_network("127.0.0.1/32"),)) as client:
        assert (await client.post(f"http://both.test:{receiver.port}/", b"{}", {})).status == 204


async def test_a_name_that_changes_its_mind_is_judged_at_each_connection(receiver, names, monkeypatch):
    """DNS rebinding: what was checked before says nothing about where the next connection goes."""
    names["rebind.test"] = [("127.0.0.1",), ("127.0.0.2",), ("127.0.0.2",)]
    receiver.script(Reply(headers={"Connection": "close"}))
    async with calling((ip_network("127.0.0.1/32"),)) as client:
        url = f"http://rebind.test:{receiver.port}/"
        assert (await client.post(url, b"{}", {})).status == 204
        client._session.connector.clear_dns_cache()
        assert await reason_of(client, url) is Reason.REFUSED
    assert len(receiver.seen) == 1


async def test_a_name_server_that_hangs_times_out_and_does_not_hold_the_loops_own_threads(strict, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: release.wait(20) and [])
    try:
        calls = [reason_of(strict, f"http://{number}.hang.test/", timeout_s=0.3) for number in range(40)]
        assert set(await asyncio.gather(*calls)) == {Reason.TIMEOUT}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    finally:
        release.set()


async def test_a_refusal_does_not_tell_the_address(strict, names):
    names["inside.test"] = ["10.1.2.3"]
    with pytest.raises(Unreachable) as caught:
        await strict.post("http://inside.test/", b"{}", {})
    assert str(caught.value) == "refused"


@pytest.mark.parametrize(
    "url", ["https://example.com/hook?a=b#c", "http://example.com:8080", "https://8.8.8.8/", "https://bücher.example/ü"]
)
def test_good_urls_pass_the_door(url):
    check_url(url)


@pytest.mark.parametrize("url", [*BAD_URLS, *PRIVATE_URLS, *LOCAL_NAMES])
def test_bad_urls_do_not_pass_the_door(url):
    with pytest.raises(InvalidRequest) as caught:
        check_url(url)
    assert caught.value.param == "webhook_url"


def test_the_door_names_the_parameter_it_was_given():
    with pytest.raises(InvalidRequest, match=r"^url must be an http or https URL") as caught:
        check_url("ftp://example.com", param="url")
    assert caught.value.param == "url"


def test_the_door_lets_in_what_the_operator_allows():
    for url in ("http://127.0.0.1:3000/", "http://localhost:3000/", "http://[::ffff:127.0.0.1]/", "http://127.1/"):
        check_url(url, LOOPBACK)
    with pytest.raises(InvalidRequest):
        check_url("http://10.0.0.1/", LOOPBACK)


hostile = st.text() | st.builds("{}://{}{}".format, st.sampled_from(["http", "https", "HTTP"]), st.text(), st.text())


@given(hostile)
@settings(deadline=None)
def test_no_text_breaks_the_door(url):
    with contextlib.suppress(InvalidRequest):
        check_url(url)
