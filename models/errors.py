"""What can go wrong, in words every floor shares.

An error knows its `code`, the `param` at fault and whether trying again can help (`retryable`); it never knows HTTP:
`api.errors` translates classes to statuses, `workers` decides from `retryable` whether a job goes back to its queue.

    TramError                   something broke on our side
    |-- InvalidRequest          the caller must change something
    |   |-- ContextLengthExceeded  the prompt, or prompt and answer, do not fit the model
    |   |-- KeyReused           an Idempotency-Key that came with another request
    |   `-- TooLarge            the body is larger than the server takes
    |-- Unauthenticated         no key, or a wrong one
    |-- PermissionDenied        the key is good, and not for this
    |   `-- ModelNotAllowed     the account may not use this model
    |-- InsufficientCredits     the account's credits are used up, or bound by what runs
    |-- BudgetExceeded          the account's spending cap leaves no room for this
    |-- RateLimited             the account's limit of requests, tokens or open jobs; come back after `retry_after_s`
    |-- NotFound                absent, or somebody else's (the two look the same)
    |-- Conflict                the thing is not in a state that allows this
    |-- QueueFull               come back after `retry_after_s`
    |-- Unavailable             nothing can serve this right now
    |-- Expired                 the deadline passed
    |-- Cancelled               somebody asked for it to stop
    |-- EngineError             the engine refused or broke
    |   |-- EngineBusy          its own queue is full
    |   `-- EngineLost          the connection broke, or it was never there
    `-- Interrupted             an answer broke off after its first token and cannot be continued
"""

from typing import Any, ClassVar


class TramError(Exception):
    code: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.own_code = code or self.code
        self.ended = False
        """Whether it is how a job ended, which no repetition of the question changes."""

    def as_json(self) -> dict[str, Any]:
        """What a job row keeps of its failure; `from_json` turns it back."""
        return {"kind": type(self).__name__, "message": self.message, "param": self.param, "code": self.own_code}


class InvalidRequest(TramError):
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class TooLarge(InvalidRequest):
    code = "request_too_large"


class KeyReused(InvalidRequest):
    code = "idempotency_key_reused"


class Unauthenticated(TramError):
    code = "invalid_api_key"


class PermissionDenied(TramError):
    code = "permission_denied"


class ModelNotAllowed(PermissionDenied):
    code = "model_not_allowed"


class InsufficientCredits(TramError):
    code = "insufficient_credits"
    bound = False
    """Whether there will be enough if the jobs that are open cost nothing: who can wait should."""


class BudgetExceeded(TramError):
    code = "budget_exceeded"
    bound = False


class RateLimited(TramError):
    code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotFound(TramError):
    code = "not_found"


class Conflict(TramError):
    code = "conflict"


class QueueFull(TramError):
    code = "queue_full"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(TramError):
    code = "service_unavailable"
    retryable = True


class Expired(TramError):
    code = "deadline_exceeded"


class Cancelled(TramError):
    code = "cancelled"


class EngineError(TramError):
    code = "engine_error"


class EngineBusy(EngineError):
    code = "saturated"
    retryable = True


class EngineLost(EngineError):
    code = "engine_lost"
    retryable = True


class Interrupted(TramError):
    code = "stream_interrupted"


def _kinds(root: type[TramError]) -> dict[str, type[TramError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_kinds(child))
    return found


KINDS = {name: kind for name, kind in _kinds(TramError).items() if kind not in {QueueFull, RateLimited}}


def from_json(stored: dict[str, Any]) -> TramError:
    """The error a job row keeps; an unknown kind (written by a newer release) reads as a plain `TramError`."""
    kind = KINDS.get(stored["kind"], TramError)
    return kind(stored["message"], param=stored["param"], code=stored["code"])
