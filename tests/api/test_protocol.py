"""What may a client rely on below HTTP?  Over a socket, where nothing mends what the server does."""

import http.client
from contextlib import closing

import pytest

from tests.api.conftest import Api

CLIENTS_KEEP_S = 5.0
"""httpx, and with it openai-python, drops a connection that idled so long; a server that drops it then as well may do so under a
request that is on its way, and a POST is nobody's to repeat."""


def test_an_idle_connection_is_the_client_s_to_drop(api_sqlite: Api):
    with closing(http.client.HTTPConnection("127.0.0.1", api_sqlite.port, timeout=20)) as line:
        line.request("GET", "/health")
        line.getresponse().read()
        assert line.sock is not None
        line.sock.settimeout(CLIENTS_KEEP_S + 1)
        with pytest.raises(TimeoutError):
            line.sock.recv(1)
        line.request("GET", "/health")
        assert line.getresponse().status == 200
