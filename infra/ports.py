"""Which TCP ports are free, and who holds one that is not?

Asks the kernel: by binding, and by /proc for the holder's name.  Refuses to reserve: between the answer and the use of it
somebody else may come, but not by chance.
"""

import errno
import socket
from pathlib import Path
from random import SystemRandom

_FIRST = 10_000  # below it well-known services have theirs
_TRIES = 64
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LISTEN = "0A"  # the kernel's number for a listening socket in /proc/net/tcp
_COMMAND_CHARACTERS = 80


def free_port(host: str) -> int:
    """One that the kernel hands out to nobody, where there is such: an engine listens twenty seconds after it was told its port.

    A port of the kernel's own choice would meanwhile become any outgoing connection's.
    """
    quiet = range(_FIRST, _first_ephemeral())
    for port in SystemRandom().sample(quiet, min(_TRIES, len(quiet))):
        if not port_taken(host, port):
            return port
    with _bound(host, 0) as listener:
        return int(listener.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return True
        raise
    return False


def port_holder(port: int) -> str:
    """`process 4711 (python -m http.server)`; empty when /proc does not tell, as of another user's process."""
    sockets = {f"socket:[{inode}]" for inode in _listening_on(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        if _target(descriptor) in sockets:
            pid = descriptor.parts[2]
            return f"process {pid} ({_command(pid)})"
    return ""


def _first_ephemeral() -> int:
    """Of the ports that outgoing connections get; 0 where it is not told."""
    return int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 0


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # As servers do: a port whose last connections are still fading counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _listening_on(port: int) -> set[str]:
    """The inodes of the sockets that listen on it, on any address."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / table)]
    return {line[9] for line in lines if line[3] == _LISTEN and int(line[1].rpartition(":")[2], 16) == port}


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile, or not ours to read
        return ""


def _command(pid: str) -> str:
    words = (Path("/proc") / pid / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join(words).strip()[:_COMMAND_CHARACTERS]
