"""What does the last entry of a job's token stream say?  How the job ended, for whoever holds the line.

Written by whichever process ended the job, read by the API.  The row says the same; this only says it sooner.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import TramError, from_json
from models.lifecycle import JobState


@dataclass(frozen=True, slots=True)
class StreamEnd:
    state: JobState
    error: dict[str, Any] | None = None
    completion: dict[str, Any] | None = None
    """The whole answer; None where the caller has had it chunk by chunk."""
    waited_ms: int | None = None
    """From the job's making to its first claim; None where nobody has claimed it."""

    def dump(self) -> bytes:
        told = {"state": self.state, "error": self.error, "completion": self.completion, "waited_ms": self.waited_ms}
        return orjson.dumps(told)

    @classmethod
    def load(cls, data: bytes) -> "StreamEnd":
        told = orjson.loads(data)
        return cls(JobState(told["state"]), told["error"], told["completion"], told["waited_ms"])

    def failure(self) -> TramError | None:
        if self.error is None:
            return None
        failure = from_json(self.error)
        failure.ended = True
        return failure
