"""How does the command line talk to a running Tramontane?  Over HTTP, with a key, like anybody else."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from models.errors import TramError, Unavailable

_TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""A service that restarts is back within it."""
_PAUSE_S = 0.2
_AGAIN = {429, 502, 503, 504}
"""Statuses that may be others in a moment."""


class Refused(TramError):
    """The service said no; its own words say why."""

    code = "refused"


class ServiceClient:
    def __init__(self, url: str, key: str) -> None:
        self._http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S, trust_env=False
        )

    def replay(self, source_id: str, asked: dict[str, Any], moved: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The replay once it has ended; `source_id` is a job, a completion or a conversation.  `moved` sees it on its way."""
        kind = "source_conversation_id" if source_id.startswith("conv_") else "source_request_id"
        view = self._ask("POST", "/v1/replays", {kind: source_id} | asked)
        while view["ended_at"] is None:
            time.sleep(_PAUSE_S)
            view = self.patiently("GET", f"/v1/replays/{view['id']}")
            moved(view)
        return view

    def turns(self, replay: dict[str, Any]) -> list[dict[str, Any]]:
        """All of a replay's turns, through their pages."""
        found: list[dict[str, Any]] = []
        more = True
        while more:
            after = found[-1]["number"] if found else -1
            page = self._ask("GET", f"{replay['turns_url']}?limit=100&after={after}")
            found, more = found + page["data"], page["has_more"]
        return found

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

    def upload(self, path: Path, purpose: str) -> str:
        """The id of the file, which is read as it is sent."""
        with path.open("rb") as file:
            view = self._ask("POST", "/v1/files", files={"file": (path.name, file)}, data={"purpose": purpose})
        return str(view["id"])

    def start_batch(self, file_id: str, endpoint: str, window: str, metadata: dict[str, str]) -> dict[str, Any]:
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window, "metadata": metadata}
        return self._ask("POST", "/v1/batches", body)

    def batch(self, batch_id: str) -> dict[str, Any]:
        return self.patiently("GET", f"/v1/batches/{batch_id}")

    def cancel_batch(self, batch_id: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/batches/{batch_id}/cancel")

    def batches(self) -> Iterator[dict[str, Any]]:
        """The newest first, page by page."""
        page = self._ask("GET", "/v1/batches?limit=100")
        yield from page["data"]
        while page["has_more"]:
            page = self._ask("GET", f"/v1/batches?limit=100&after={page['last_id']}")
            yield from page["data"]

    def has_file(self, file_id: str) -> bool:
        try:
            self._ask("GET", f"/v1/files/{file_id}")
        except Refused:
            return False
        return True

    def download(self, file_id: str, place: Path) -> None:
        """Whole or not at all."""
        part = place.with_name(place.name + ".part")
        try:
            with self._http.stream("GET", f"/v1/files/{file_id}/content") as answer:
                if answer.is_error:
                    raise Refused(f"{file_id} cannot be read: status {answer.status_code}")
                with part.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
            part.replace(place)
        except httpx2.HTTPError as error:
            raise Unavailable(f"{file_id} broke off: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str = "") -> dict[str, Any]:
        """Any route; `key` makes asking twice safe.  Raises Unavailable where that may help, Refused where it does not."""
        return self._ask(method, path, body, headers={"Idempotency-Key": key} if key else {})

    def patiently(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asks again while the service is away, with the same key: a restart takes seconds.  Raises as `ask` does."""
        until, key = time.monotonic() + PATIENCE_S, uuid4().hex if body else ""
        while True:
            try:
                return self.ask(method, path, body, key=key)
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, **form: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, **form)
            told: dict[str, Any] = answer.json()
        except httpx2.HTTPError as error:
            raise Unavailable(f"nothing answers at {self._http.base_url}: {error}") from error
        except ValueError:
            raise Unavailable(f"{self._http.base_url} does not answer in JSON: status {answer.status_code}") from None
        if answer.is_success:
            return told
        kind = Unavailable if answer.status_code in _AGAIN else Refused
        raise kind(told["error"]["message"])


def _reason(answer: httpx2.Response) -> str:
    told: dict[str, Any] = answer.json()
    return str(told["error"]["message"])
