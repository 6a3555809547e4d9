"""How does the command line talk to a running Tramontane?  Over HTTP, with a key, like anybody else."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from models.errors import TramError, Unavailable

_TIMEOUT_S = 30.0
_PAUSE_S = 0.2


class Refused(TramError):
    """The service said no; its own words say why."""

    code = "refused"


class ServiceClient:
    def __init__(self, url: str, key: str) -> None:
        self._http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S, trust_env=False
        )

    def replay(self, source_id: str, model: str | None, overrides: dict[str, Any]) -> dict[str, Any]:
        """The replay once it has ended; `source_id` is a job, a completion or a conversation."""
        kind = "source_conversation_id" if source_id.startswith("conv_") else "source_request_id"
        view = self._ask("POST", "/v1/replays", {kind: source_id, "target_model": model, "overrides": overrides})
        while view["status"] in {"queued", "in_progress"}:
            time.sleep(_PAUSE_S)
            view = self._ask("GET", f"/v1/replays/{view['id']}")
        return view

    @contextmanager
    def export(self, wanted: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The file's bytes as they come.  Raises Refused, Unavailable; the latter too where they break off."""
        try:
            with self._http.stream("GET", "/v1/conversations/export", params=wanted) as answer:
                if answer.is_error:
                    answer.read()
                    raise Refused(_reason(answer))
                yield answer.iter_bytes()
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self._http.base_url} stopped answering: {error}") from error

    def bring(self, pieces: Iterator[bytes], wanted: Mapping[str, Any]) -> dict[str, Any]:
        """What came of an import, when it is done."""
        try:
            answer = self._http.post(
                "/v1/conversations/import", params=wanted, content=pieces, timeout=httpx2.Timeout(_TIMEOUT_S, read=None)
            )
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self._http.base_url} stopped answering: {error}") from error
        if answer.is_error:
            raise Refused(_reason(answer))
        told: dict[str, Any] = answer.json()
        return told

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise Unavailable(f"nothing answers at {self._http.base_url}: {error}") from error
        if answer.is_error:
            raise Refused(_reason(answer))
        told: dict[str, Any] = answer.json()
        return told


def _reason(answer: httpx2.Response) -> str:
    told: dict[str, Any] = answer.json()
    return str(told["error"]["message"])
