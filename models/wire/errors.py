"""Which status and type does an error have on the wire?  One table, and OpenAI's envelope with all four keys.

The statuses are HTTP's, and belong to what crosses it: an answer, or a line of a batch's file that says what the answer would have been.
"""

from dataclasses import dataclass
from typing import Any

from models import errors


@dataclass(frozen=True, slots=True)
class Wire:
    status: int
    type: str
    again: bool = True
    """False: who tries again is told the same, though OpenAI's clients, which go by the status, might."""


TABLE: dict[type[errors.TramError], Wire] = {
    errors.TramError: Wire(500, "server_error"),
    errors.InvalidRequest: Wire(400, "invalid_request_error"),
    errors.TooLarge: Wire(413, "invalid_request_error"),
    errors.KeyReused: Wire(422, "invalid_request_error"),
    errors.Unauthenticated: Wire(401, "authentication_error"),
    errors.InsufficientCredits: Wire(402, "insufficient_credits", again=False),
    errors.BudgetExceeded: Wire(402, "budget_exceeded", again=False),
    errors.PermissionDenied: Wire(403, "permission_error", again=False),
    errors.NotFound: Wire(404, "not_found"),
    errors.Conflict: Wire(409, "conflict_error", again=False),
    errors.RateLimited: Wire(429, "rate_limit_error"),
    errors.QueueFull: Wire(429, "rate_limit_error"),
    errors.Unavailable: Wire(503, "service_unavailable"),
    errors.Expired: Wire(504, "timeout_error", again=False),
    errors.Cancelled: Wire(409, "conflict_error", again=False),
    errors.EngineError: Wire(500, "server_error"),
    errors.EngineBusy: Wire(503, "service_unavailable"),
    errors.EngineLost: Wire(503, "service_unavailable"),
    errors.Interrupted: Wire(500, "server_error"),
}


def wire_of(error: errors.TramError) -> Wire:
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def envelope(error: errors.TramError) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": wire_of(error).type,
            "param": error.param,
            "code": error.own_code,
        }
    }
