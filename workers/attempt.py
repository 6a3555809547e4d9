"""What happens between the claim of a job and its end?  One attempt: ask the engine, pass the tokens on, add them up.

Relies on a node and a claim; writes only to the job's token stream.  It does not raise for what an engine may do: every way an
answer can end is an `Outcome`, which `workers.generate` writes down.

A later attempt finds in the stream what its predecessors have sent.  Where that can be continued (`workers.continuation`) the engine
is given the tokens to go on from; else followers are told that what they have is void, and it begins anew.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

from infra.clock import now_ms
from infra.engine.tool_calls import reader_for
from infra.token_stream import NOTHING, Counts, Entry, Fenced, take_over
from models.errors import Cancelled, EngineBusy, EngineError, EngineLost, Expired, Interrupted, TramError, Unavailable
from models.handover import Claimed
from models.lifecycle import JobState
from models.wire.chat import engine_parameters
from models.wire.stream import Answer, clean, usage_of
from workers.continuation import Begun, input_ids
from workers.node import Node, Stop
from workers.relay import Relay

_BUSY_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # the engine's own queue is full; the last is repeated
REFUSED_S = 300.0
"""How long an engine that refuses is asked again: longer than one behind a gateway takes to start.  Then it is another attempt's turn."""
_LAST_WORDS_S = 0.5  # an aborted request still tells its usage, within milliseconds where it does


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; `state` None: without an end, so the job goes back to its queue."""

    state: JobState | None
    error: TramError | None = None
    lost: bool = False
    """Somebody else has the job: nothing may be written."""


_STOPPED = {
    Stop.CANCELLED: Outcome(JobState.CANCELLED, Cancelled("the job was cancelled")),
    Stop.EXPIRED: Outcome(JobState.EXPIRED, Expired("the deadline passed before the answer was complete")),
    Stop.LOST: Outcome(None, lost=True),
    Stop.STUCK: Outcome(None, EngineLost("the engine made no tokens any more")),
}


class Attempt:
    def __init__(self, node: Node, job: Claimed) -> None:
        self.node, self.job = node, job
        self.fingerprint = node.presence.fingerprint
        self.environment = node.presence.environment
        self.relay = Relay(node.stream, job, self.fingerprint)
        self.answer = Answer()
        self.counts = Counts(waited_ms=job.waited_ms)
        self.first_token_ms: int | None = None
        self._parameters = engine_parameters(job.parameters)
        self._introduced: frozenset[int] = frozenset()
        """Choices of which followers were told who speaks: an earlier attempt began them."""
        self._carried = 0
        """Tokens that earlier attempts have said."""
        self._made: dict[int, int] = {}
        """Tokens so far, by choice, where the engine counts as it goes."""
        self._aborted = False
        self._calls = reader_for(self._parameters)
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, why: Stop) -> None:
        if not self._stop.done():
            self._stop.set_result(why)

    async def run(self) -> Outcome:
        """Until the answer is complete, the engine fails, the deadline passes or somebody says stop."""
        if self._stop.done():  # before it had begun
            return _STOPPED[self._stop.result()]
        asking = asyncio.create_task(self._ask())
        try:
            either: set[asyncio.Future[Any]] = {asking, self._stop}
            await asyncio.wait(either, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return await asking
            why = self._stop.result() if self._stop.done() else Stop.EXPIRED
            await self.node.engine.abort(self._rid)
            await asyncio.wait({asking}, timeout=_LAST_WORDS_S if self._parameters.get("n") in {None, 1} else 0)
            return _STOPPED[why]
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    @property
    def usage(self) -> dict[str, Any]:
        return usage_of(*self.counts[:3])

    @property
    def _rid(self) -> str:
        """Of one length for all, because SGLang aborts by prefix; of one attempt, because a late one must not end the next."""
        return f"{self.job.id}-{self.job.attempt}"

    def _seconds_left(self) -> float | None:
        return None if self.job.deadline_ms is None else max(0.0, (self.job.deadline_ms - now_ms()) / 1000)

    async def _ask(self) -> Outcome:
        try:
            if self.job.attempt > 1 and await self._continue():
                return Outcome(JobState.COMPLETED)
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    self._take(chunk)
        except Fenced:
            return _STOPPED[Stop.LOST]
        except EngineLost as error:
            self.node.engine_lost()
            return Outcome(None, error)
        except TramError as error:
            return Outcome(None if error.retryable else JobState.FAILED, error)
        if self._aborted:
            return Outcome(None, EngineLost("the engine aborted the request"))
        self.relay.send_usage(self.usage, self.counts)
        return Outcome(JobState.COMPLETED)

    async def _chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The engine's chunks; one that refuses is asked again for `REFUSED_S`, unless it has said something."""
        salt = await self.node.cache_salt(self.job.account_id)
        give_up = time.monotonic() + REFUSED_S
        for refusals in count():
            stream = self.node.engine.stream(self._parameters, self.job.messages, rid=self._rid, cache_salt=salt)
            try:
                async with aclosing(stream) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except EngineBusy:
                if self.first_token_ms is not None or time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(_BUSY_PAUSES_S[min(refusals, len(_BUSY_PAUSES_S) - 1)])
            else:
                return

    def _take(self, chunk: dict[str, Any]) -> None:
        if told := chunk.get("usage"):
            self._count(told, chunk.get("choices"))
        if not chunk.get("choices"):
            return
        choices = clean(chunk["choices"])
        if any(choice["finish_reason"] == "abort" for choice in choices):
            self._aborted = True  # no end of the answer's: what becomes of the job is not the engine's to say
            return
        if self._calls is not None:
            choices = self._calls.read(choices)
        if self._introduced:
            choices = [choice for choice in choices if not self._repeats_itself(choice)]
        if choices:
            self._say(choices)

    def _say(self, choices: list[dict[str, Any]]) -> None:
        self.first_token_ms = self.first_token_ms or now_ms()
        self.answer.add(choices)
        self.relay.send(choices, self.counts)

    def _repeats_itself(self, choice: dict[str, Any]) -> bool:
        """Whether a choice only says once more who speaks; if it says more, that is taken away."""
        if choice["index"] not in self._introduced or choice["delta"].pop("role", None) is None:
            return False
        return not any(choice["delta"].values()) and choice["finish_reason"] is None

    def _count(self, told: dict[str, Any], choices: list[dict[str, Any]] | None) -> None:
        """A continued answer was in part the engine's prompt: those tokens are counted where they belong."""
        prompt, made = told.get("prompt_tokens") or 0, told.get("completion_tokens") or 0
        if choices:  # one choice's count, on its way
            self._made[choices[0]["index"]] = made
            made = sum(self._made.values())
        cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        own = prompt - self._carried
        self.counts = Counts(own, made + self._carried, min(cached, own), self.counts.waited_ms)

    async def _continue(self) -> bool:
        """Takes up what earlier attempts have sent, where that is possible; True: there is nothing left to ask."""
        entries = await self._sent_before()
        sent = self.relay.carry_on(entries)
        begun = Begun.of(sent, entries[-1].counts if entries else NOTHING)
        if begun.is_whole(self._parameters):
            self._take_up(begun)
            self._end(begun)
            return True
        if begun.is_silent():
            self._introduced = begun.introduced()
        else:
            await self._go_on(begun)
        return False

    async def _go_on(self, begun: Begun) -> None:
        ids = await input_ids(self.node.engine, self.job, self._parameters, begun)
        if ids is None:
            self.relay.restart()
            return
        self._take_up(begun)
        limit = self._parameters.get("max_completion_tokens")
        left = {} if limit is None else {"max_completion_tokens": limit - self._carried}
        self._parameters |= {"input_ids": ids} | left

    def _take_up(self, begun: Begun) -> None:
        self._introduced = begun.introduced()
        self.counts = begun.counts
        self._carried = begun.counts.completion
        for chunk in begun.chunks:
            self.answer.add(chunk["choices"])

    def _end(self, begun: Begun) -> None:
        """What an attempt that was lost at the last moment has left to say."""
        if not all(self.answer.finish_reasons()):
            self._say([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}])
        if not begun.chunks[-1].get("usage"):
            self.relay.send_usage(self.usage, self.counts)

    async def _sent_before(self) -> Sequence[Entry]:
        try:
            return await take_over(self.node.redis, self.job.id, self.job.attempt)
        except (Unavailable, Interrupted):  # what was sent is gone: nobody can be told more of it
            return ()


def engine_failure(error: BaseException) -> TramError:
    """What an attempt that broke in our own code tells the caller: nothing of the exception's text."""
    return error if isinstance(error, TramError) else EngineError("the attempt failed; the server's log says why")
