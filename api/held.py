"""What does a caller get who holds the line for the job that was just accepted?  Its stream, or its answer, in their door's dialect.

Who hangs up cancels, unless the request has a name (its Idempotency-Key), under which it can be come back for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.acceptance import Accepted, headers_of
from api.answers import json_response
from api.cancel import hang_up
from api.deps import State
from api.dialects import Dialect
from api.lines import EventStream, chat_closing, entries, or_hang_up, or_leave, whole
from models.accounts import Caller
from models.errors import InvalidRequest, Unavailable
from models.wire.ending import StreamEnd

_CLIENT_CLOSED = 499  # nginx's word for it; nobody is left to read it, but the log is


async def answer(
    request: Request, state: State, caller: Caller, accepted: Accepted, dialect: Dialect, *, stream: bool, stays: bool
) -> Response:
    """`stays`: the job goes on when its caller hangs up."""
    headers = {"x-tram-job": accepted.job_id} | headers_of(accepted)
    leave = None if stays else partial(hang_up, state, caller.account_id, accepted.job_id)
    if stream:
        line, closing = entries(state, accepted.job_id), partial(chat_closing, dialect=dialect)
        return EventStream(line, closing=closing, headers=headers, on_hang_up=leave, dialect=dialect)
    with or_leave(leave):
        ending = await or_hang_up(request, whole(state, accepted.job_id))
    if ending is not None:
        return _whole(ending, headers, dialect)
    if leave is not None:
        leave()
    return Response(status_code=_CLIENT_CLOSED)


@contextmanager
def by_prompt(body: Mapping[str, Any]) -> Iterator[None]:
    """What is wrong with the message that a prompt became is told of the prompt."""
    try:
        yield
    except InvalidRequest as error:
        if body.get("prompt") is None or not (error.param or "").startswith("messages"):
            raise
        raise type(error)(error.message, param="prompt", code=error.own_code) from None


def _whole(ending: StreamEnd, headers: dict[str, str], dialect: Dialect) -> Response:
    if failure := ending.failure():
        raise failure
    if ending.completion is None:
        raise Unavailable("the answer was lost on the way")
    waited = {} if ending.waited_ms is None else {"x-queue-wait-ms": str(ending.waited_ms)}
    return json_response(dialect.whole(ending.completion), headers=headers | waited)
