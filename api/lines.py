"""How does a caller who holds the line get the answer, and what happens when they hang up?

`EventStream` sends a job's chunks as server-sent events; `whole` waits for the end.  Both follow the job's token stream and hold no
database session meanwhile.  A line that is silent for a while is kept alive by comments, and its job's row is looked at, since
Redis may have lost what it held.  Who hangs up on a chat cancels it: the disconnect is awaited beside the stream, not noticed
at the next write.  So does whoever is told an error that is not how the job ended: they would ask again, and pay twice.

Nothing is sent before the first entry (or `HOLD_S`), so that what fails early still has its status.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.deps import State
from api.dialects import CHAT, Dialect
from api.records import stored_entries
from infra.token_stream import START, Entry, EventId
from models.errors import Interrupted, TramError
from models.wire.ending import StreamEnd
from models.wire.stream import DONE, RESTART

HOLD_S = 2.0
"""How long the status line waits for the first word: long enough for a refusal, short enough for a proxy."""
SILENCE_S = 5.0
"""After this long without a word: a comment for the caller's sake, a look at the row for ours."""
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather the tokens
]
_QUIET = b": still here\n\n"
Closing = Callable[[StreamEnd, EventId], bytes]
"""What stands at the end of a stream: bytes for the way the job ended."""


async def entries(state: State, job_id: str, after: EventId = START) -> AsyncGenerator[Entry | None, None]:
    """Every entry up to and including the end; None after each silence.

    Where Redis has lost the stream, an ended job's row tells the rest.
    """
    seen, patience_s = after, HOLD_S
    async with state.reader.follow(job_id, after) as follower:
        while True:
            try:
                entry = await follower.next(patience_s)
            except Interrupted:
                entry = None
                await asyncio.sleep(patience_s)
            patience_s = SILENCE_S
            for known in [entry] if entry else await stored_entries(state, job_id, seen):
                seen = EventId(known.attempt, known.last_sequence)
                yield known
                if known.final is not None:
                    return
            if entry is None:
                yield None


async def only(entry: Entry) -> AsyncGenerator[Entry | None, None]:
    """What an ended job's record tells, as a line."""
    yield entry


async def whole(state: State, job_id: str) -> StreamEnd:
    """The end, with the whole completion."""
    async with aclosing(entries(state, job_id)) as line:
        async for entry in line:
            if entry is not None and entry.final is not None:
                return StreamEnd.load(entry.final)
    raise AssertionError("the entries of a job go on until its end")


async def or_hang_up(request: Request, answer: Coroutine[Any, Any, StreamEnd]) -> StreamEnd | None:
    """The answer, or None when the caller is gone first."""
    waiting = asyncio.create_task(answer)
    leaving = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        for task in (waiting, leaving):
            task.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@contextmanager
def or_leave(leave: Callable[[], None] | None) -> Iterator[None]:
    """An error that goes up is the caller's answer, so nobody is left for the job's; unless it is how the job ended."""
    try:
        yield
    except Exception as error:
        if leave is not None and not (isinstance(error, TramError) and error.ended):
            leave()
        raise


class EventStream(Response):
    """A job's chunks as server-sent events, each with its id, then what `closing` says."""

    def __init__(
        self,
        line: AsyncGenerator[Entry | None, None],
        *,
        closing: Closing,
        headers: dict[str, str],
        on_hang_up: Callable[[], None] | None = None,
        observing: bool = False,
        dialect: Dialect = CHAT,
    ) -> None:
        """`observing`: the stream of a job that lives its own life; its failure and its restarts are events like others."""
        super().__init__()
        self._own = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._line, self._closing, self._on_hang_up, self._observing = line, closing, on_hang_up, observing
        self._dialect, self._chunks = dialect, dialect.chunks()
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                return sending.result()
            if self._on_hang_up is not None:
                self._on_hang_up()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        try:
            with or_leave(self._on_hang_up):
                await self._send_entries(send)
        except TramError as error:
            if not self._begun:
                raise
            await self._send(send, error_event(error, self._dialect))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_entries(self, send: Send) -> None:
        async with aclosing(self._line) as line:
            async for entry in line:
                body = _QUIET if entry is None else self._events(entry)
                if not self._begun and entry is not None:
                    self._own += waited(entry)
                await self._send(send, body)

    async def _send(self, send: Send, body: bytes) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *self._own]})
        await send({"type": "http.response.body", "body": body, "more_body": True})

    def _events(self, entry: Entry) -> bytes:
        """The bytes of one entry.  An end that is an error, when nothing was sent yet, is raised: it still has a status."""
        parts = [
            self._event(entry.attempt, number, chunk) for number, chunk in enumerate(entry.chunks, entry.first_sequence)
        ]
        if entry.final is not None:
            ending = StreamEnd.load(entry.final)
            if (failure := ending.failure()) and not (self._observing or self._begun or parts):
                raise failure
            parts.append(self._closing(ending, EventId(entry.attempt, entry.last_sequence)))
        return b"".join(parts)

    def _event(self, attempt: int, number: int, chunk: bytes) -> bytes:
        if chunk != RESTART:
            told = [chunk] if self._chunks is None else self._chunks(chunk)
            name = b"id: %d-%d\n" % (attempt, number) if self._dialect.numbered else b""
            return b"".join([b"%bdata: %b\n\n" % (name, each) for each in told])
        if not self._observing:
            raise Interrupted("a worker was lost and its answer could not be continued")
        return b"id: %d-%d\nevent: restart\ndata: {}\n\n" % (attempt, number)


def waited(entry: Entry) -> list[tuple[bytes, bytes]]:
    """The header that says how long the job was queued, where a stream's first entry tells it."""
    told = StreamEnd.load(entry.final).waited_ms if entry.final is not None else entry.counts.waited_ms
    return [] if told is None or told < 0 else [(b"x-queue-wait-ms", b"%d" % told)]


def chat_closing(ending: StreamEnd, _: EventId, dialect: Dialect = CHAT) -> bytes:
    """OpenAI's: `[DONE]`, or a chunk with `error`, which its SDKs raise."""
    failure = ending.failure()
    return DONE if failure is None else error_event(failure, dialect)


def error_event(failure: TramError, dialect: Dialect) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(dialect.error(failure))
