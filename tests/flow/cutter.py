"""A wire between worker and engine that can be cut: passes bytes on, and breaks off in the middle of an answer when told to.

    with Cutter(engine_url) as wire:
        wire.cuts = [3, 7]      # the next chat breaks after three chunks, the one after it after seven

Broken off means both ends are closed at once, as when the engine's process is killed.
"""

import re
import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_ASKED = (b"POST /v1/chat/completions", b"POST /v1/completions")
_CHUNK = re.compile(rb'"delta":{|"text":"')
_READ_BYTES = 1 << 16


class Cutter:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._engine = (parts.hostname, parts.port)
        self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.cuts: list[int] = []
        self.cut = 0
        """How often it broke off."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._door.accept()
                _Line(self, caller, socket.create_connection(self._engine)).start()

    def after(self, request: bytes) -> int | None:
        """How many chunks the answer to `request` may have; None: all."""
        return self.cuts.pop(0) if self.cuts and request.startswith(_ASKED) else None


class _Line:
    """One connection; it may carry one request after the other."""

    def __init__(self, wire: Cutter, caller: socket.socket, engine: socket.socket) -> None:
        self._wire, self._caller, self._engine = wire, caller, engine
        self._left: int | None = None

    def start(self) -> None:
        for carry in (self._there, self._back):
            threading.Thread(target=carry, daemon=True).start()

    def _there(self) -> None:
        with suppress(OSError):
            while data := self._caller.recv(_READ_BYTES):
                if self._left is None:
                    self._left = self._wire.after(data)
                self._engine.sendall(data)
        self._hang_up()

    def _back(self) -> None:
        with suppress(OSError):
            while data := self._engine.recv(_READ_BYTES):
                kept = self._until_cut(data)
                self._caller.sendall(kept)
                if len(kept) < len(data):
                    self._wire.cut += 1
                    break
        self._hang_up()

    def _until_cut(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        for found in _CHUNK.finditer(data):
            if self._left == 0:
                return data[: found.start()]
            self._left -= 1
        return data

    def _hang_up(self) -> None:
        for end in (self._caller, self._engine):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
