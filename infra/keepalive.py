"""How soon is it noticed that the other side has vanished without a word?  Its host lost power, or the way there is cut.

Nothing comes back then, not even a refusal, and the kernel's own patience is a quarter of an hour where something was sent, for
ever where nothing was.  These are TCP's own means: probes on a connection that is idle, a limit on what was sent and not acknowledged.
They cost nothing while the other side talks, and a peer that acknowledges and never answers passes them.
"""

import socket
from typing import Any

IDLE_S, INTERVAL_S, PROBES = 5, 2, 3
"""Lost after 11 s: within a lease, and longer than any network that works keeps silent."""
UNACKNOWLEDGED_MS = 10_000


def kept_alive(address: tuple[Any, ...]) -> socket.socket:
    """A socket to be connected there; `address` is one of what `getaddrinfo` answers."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, IDLE_S),
        (socket.TCP_KEEPINTVL, INTERVAL_S),
        (socket.TCP_KEEPCNT, PROBES),
        (socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS),
    ):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
