"""Does the command line wait for a service that restarts, and ask for nothing twice?"""

import httpx2
import pytest

from api import caller
from api.caller import Refused, ServiceClient
from models.errors import Unavailable

ENDED = {"id": "rpl_1", "ended_at": 1}
OPEN = ENDED | {"ended_at": None}


class Service:
    """Answers one thing after another."""

    def __init__(self, *answers):
        self.asked, self._answers = [], list(answers)

    def __call__(self, request):
        self.asked.append((request.method, request.headers.get("idempotency-key")))
        told = self._answers.pop(0)
        if isinstance(told, Exception):
            raise told
        status, body = told
        return httpx2.Response(status, json=body)


def client(monkeypatch, service, patience_s=60.0):
    made = ServiceClient("http://service", "key")
    made._http = httpx2.Client(base_url="http://service", transport=httpx2.MockTransport(service))
    monkeypatch.setattr(caller, "_PAUSE_S", 0.0)
    monkeypatch.setattr(caller, "PATIENCE_S", patience_s)
    return made


def test_a_replay_is_followed_over_a_restart(monkeypatch):
    gone, away = httpx2.ConnectError("refused"), (503, {"error": {"message": "not yet"}})
    service = Service((202, OPEN), gone, away, (200, OPEN), (200, ENDED))
    seen = []
    assert client(monkeypatch, service).replay("job_1", {}, seen.append) == ENDED
    assert [method for method, _ in service.asked] == ["POST", *["GET"] * 4]
    assert seen == [OPEN, ENDED]


def test_what_is_made_is_asked_for_again_under_the_same_key(monkeypatch):
    service = Service(httpx2.ReadError("broke off"), (201, {"id": "eval_1"}))
    assert client(monkeypatch, service).patiently("POST", "/v1/evals", {"name": "n"}) == {"id": "eval_1"}
    (_, key), (_, again) = service.asked
    assert key == again
    assert key


def test_a_service_that_stays_away_is_given_up(monkeypatch):
    service = Service(httpx2.ConnectError("refused"), httpx2.ConnectError("refused"))
    with pytest.raises(Unavailable):
        client(monkeypatch, service, patience_s=-1.0).patiently("GET", "/v1/batches/batch_1")
    assert len(service.asked) == 1


def test_what_is_refused_is_not_asked_again(monkeypatch):
    service = Service((404, {"error": {"message": "there is none"}}))
    with pytest.raises(Refused, match="there is none"):
        client(monkeypatch, service).patiently("GET", "/v1/batches/batch_1")
