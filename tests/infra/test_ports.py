"""Is a free port free, a taken one taken, and its holder named?"""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import ports
from infra.ports import free_port, port_holder, port_taken


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def listener(host: str) -> Iterator[socket.socket]:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        yield server


def test_a_free_port_can_be_listened_on(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, free_port(host)), family=family) as server:
        assert server.getsockname()[0] == host


def test_a_free_port_becomes_no_outgoing_connection_by_chance(host: str) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first <= 10_000:
        pytest.skip("here the kernel hands out nearly all ports")
    assert all(10_000 <= free_port(host) < first for _ in range(20))


@pytest.mark.parametrize("told", ["1024\t65535", None], ids=["all of them", "not told"])
def test_where_the_kernel_keeps_all_ports_it_is_asked(
    told: str | None, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "range"
    if told is not None:
        place.write_text(told)
    monkeypatch.setattr(ports, "_EPHEMERAL", place)
    assert not port_taken(host, free_port(host))


def test_a_port_somebody_listens_on_is_taken(host: str, listener: socket.socket) -> None:
    assert port_taken(host, listener.getsockname()[1])


def test_one_that_listens_everywhere_takes_it_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert port_taken("127.0.0.1", server.getsockname()[1])


def test_a_port_whose_connections_fade_is_free(host: str, listener: socket.socket) -> None:
    address = listener.getsockname()[:2]
    with socket.create_connection(address):
        listener.accept()[0].close()  # this side closes first, so it keeps the fading connection
    listener.close()
    assert not port_taken(*address)


def test_the_holder_is_named(listener: socket.socket) -> None:
    told = port_holder(listener.getsockname()[1])
    assert told.startswith(f"process {os.getpid()} (")
    assert Path(sys.executable).name[:6] in told


def test_nobody_holds_a_port_without_a_listener() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert port_holder(bound.getsockname()[1]) == ""


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        port_taken("192.0.2.1", 1)
