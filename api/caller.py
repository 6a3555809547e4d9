"""How does the command line talk to a running Tramontane?  Over HTTP, with a key, like anybody else."""

import time
from collections.abc import Callable
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

    def replay(self, source_id: str, asked: dict[str, Any], moved: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The replay once it has ended; `source_id` is a job, a completion or a conversation.  `moved` sees it on its way."""
        kind = "source_conversation_id" if source_id.startswith("conv_") else "source_request_id"
        view = self._ask("POST", "/v1/replays", {kind: source_id} | asked)
        while view["ended_at"] is None:
            time.sleep(_PAUSE_S)
            view = self._ask("GET", f"/v1/replays/{view['id']}")
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

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise Unavailable(f"nothing answers at {self._http.base_url}: {error}") from error
        told: dict[str, Any] = answer.json()
        if answer.is_error:
            raise Refused(told["error"]["message"])
        return told
