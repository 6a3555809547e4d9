"""An engine in the shape of SGLang 0.5.23, for faults and for load.  What it says was copied from a real one.

    async with FakeEngine() as engine:          # or: python tests/fakes/engine.py --port 0, which prints its address as JSON
        ...                                     # send it {"role": "user", "content": "!tokens=100 rate=50 fail_after=10"}
        await engine.until(lambda: engine.running == 3)

What it does is scripted by words after a `!`: as last user message, behind the model's name, or for all as `FakeEngine("tokens=9")`.

    tokens=16       how many it would say: "token 1 token 2 …"; max_tokens cuts it
    rate=0          tokens a second; 0: as fast as it can
    first=0         seconds until the first
    fail_after=N    drops the connection after N tokens
    status=503      answers with this status and an error
    error_event     its queue is full: an error event where a stream was asked for, else 503; with fail_after only then
    name=token      what it says before each number
    together=N      says nothing until N answers are under way
    hang            says nothing until it is aborted or left
    stamp           says the clock (monotonic, ns) in place of words, to measure a token's way
    raw=%5BTOOL     says this text, percent-encoded here, four characters a token
    die             ends, after `fail_after` tokens if that is given: the process, or in process its port and connections

A raw prompt (`/v1/completions`) is answered alike, as text.  It counts as it goes where asked to (`continuous_usage_stats`), and its
"token N" has the id 1000 + N: `input_ids` go on where they stop, as `continue_final_message` does behind the last message.  As a process it tells what it has seen at GET /_state,
GET /_requests, and GET /_wait?running=0&min_finished=5&timeout_s=10 (the state once it is so, or 408).
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import orjson

BURST = 64
"""Tokens said in one go when they are not paced; between two bursts others are served."""
RAW = 4
"""Characters of a scripted text that make a token."""
KEEP = 1000
FULL = {"object": "error", "message": "The request queue is full.", "type": "503", "param": None, "code": 503}
ERROR_EVENT = f"data: {orjson.dumps({'error': FULL | {'type': 'SERVICE_UNAVAILABLE'}}).decode()}\n\ndata: [DONE]\n\n"
DELTA = ',"delta":{"reasoning_content":null'
UNSAID = '},"logprobs":null,"finish_reason":null,"matched_stop":null}]'
END = "}\n\n"
FIRST_ID = 1000
"""Ids above it are words said, those below words of a prompt."""


@dataclass(frozen=True)
class Script:
    tokens: int = 16
    rate: float = 0.0
    first: float = 0.0
    fail_after: int = -1
    status: int = 200
    error_event: bool = False
    hang: bool = False
    die: bool = False
    stamp: bool = False
    name: str = "token"
    together: int = 0
    raw: str = ""

    def read(self, words: str) -> Self:
        """This one as changed by `words`.  Raises KeyError or ValueError for one that means nothing."""
        pairs = [word.partition("=") for word in words.split()]
        kinds = {name: type(one.default) for name, one in self.__dataclass_fields__.items()}
        changed = {name: kinds[name](value or 1) for name, _, value in pairs}
        if text := unquote(changed.get("raw", "")):
            changed |= {"raw": text, "tokens": -(-len(text) // RAW)}
        return replace(self, **changed) if changed else self

    def word(self, number: int) -> str:
        if self.raw:
            return self.raw[(number - 1) * RAW : number * RAW]
        return str(time.monotonic_ns()) if self.stamp else word(number, self.name)


@dataclass(frozen=True)
class Aborted:
    rid: str
    by: str
    """`request` (/abort_request) or `disconnect`."""
    at_s: float
    tokens: int


class Answer:
    """One generation: says its tokens by the loop's clock, without a task of its own."""

    def __init__(self, engine: "FakeEngine", link: "Link", body: dict[str, Any], script: Script) -> None:
        self.engine, self.link, self.script, self.body = engine, link, script, body
        count = body.get("n") or 1
        # As the real one: several choices get ids of their own, and `rid` is lost.
        self.ids = (
            [body.get("rid") or secrets.token_hex(16)] if count == 1 else [secrets.token_hex(16) for _ in range(count)]
        )
        self.begun = self.said = _said_before(body)
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or script.tokens
        self.last = min(script.tokens, self.begun + limit)
        self.breaks_at = self.begun + script.fail_after if script.fail_after >= 0 else None
        self.prompt_tokens, self.cached_tokens = engine.remember(body)
        self.counting = bool((body.get("stream_options") or {}).get("continuous_usage_stats"))
        self.named = {"created": int(time.time()), "model": body.get("model", engine.model)}
        common = orjson.dumps(self.named).decode()[1:-1]
        self.raw = "prompt" in body
        kind, delta = ("text_completion", "") if self.raw else ("chat.completion.chunk", DELTA)
        self.heads = [
            f'data: {{"id":"{name}","object":"{kind}",{common},"choices":[{{"index":{index}{delta}'
            for index, name in enumerate(self.ids)
        ]
        self.due = asyncio.get_running_loop().time() + script.first
        engine.answers.add(self)
        self.timer = self._later()

    def _later(self) -> asyncio.TimerHandle | None:
        waits = self.script.hang or len(self.engine.answers) < self.script.together
        return None if waits else asyncio.get_running_loop().call_at(self.due, self._step)

    def come_together(self) -> None:
        """Nobody is waited for any more."""
        self.script = replace(self.script, together=0)
        self.timer = self.timer or self._later()

    def _step(self) -> None:
        stop = self.last if self.breaks_at is None else min(self.last, self.breaks_at)
        until = min(stop, self.said + (1 if self.script.rate else BURST))
        if self.body.get("stream") and until > self.said:
            self.link.piece("".join(self._chunks(until)))
        self.engine.tokens += (until - self.said) * len(self.ids)
        self.said = until
        if until == self.breaks_at:
            self._break_off()
        elif until >= self.last:
            self.finish("stop" if self.last == self.script.tokens else "length")
        else:
            self.due += 1 / self.script.rate if self.script.rate else 0
            self.timer = self._later()
        self.engine.changed()

    def _chunks(self, until: int) -> list[str]:
        begins = self.said == self.begun and not self.raw
        roles = [f'{head},"role":"assistant","content":""{UNSAID}{END}' for head in self.heads if begins]
        numbers = range(self.said + 1, until + 1)
        words = [(n, json.dumps(self.script.word(n))) for n in numbers]
        name = "text" if self.raw else "content"
        return roles + [f'{head},"{name}":{said}{self._unsaid(n)}' for n, said in words for head in self.heads]

    def _unsaid(self, number: int) -> str:
        usage = f',"usage":{orjson.dumps(self.usage(number - self.begun)).decode()}' if self.counting else ""
        return UNSAID.removeprefix("}" if self.raw else "") + usage + END

    def usage(self, said: int) -> dict[str, Any]:
        counts = {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens + said}
        details = {"prompt_tokens_details": {"cached_tokens": self.cached_tokens}, "reasoning_tokens": 0}
        return counts | {"completion_tokens": said} | details

    def _break_off(self) -> None:
        self.leave()
        if self.script.error_event:
            self.link.piece(ERROR_EVENT, last=True)
            return
        self.link.transport.abort()
        if self.script.die:
            self.engine.die()

    def leave(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.link.answer = None
        self.engine.answers.discard(self)

    def abort(self, by: str) -> None:
        self.engine.aborted.append(Aborted(self.ids[0], by, time.time(), self.said - self.begun))
        self.leave()
        if by == "request":
            self.finish("abort")
        self.engine.changed()

    def finish(self, reason: str) -> None:
        self.leave()
        self.engine.finished += 1
        said = (self.said - self.begun) * len(self.ids)
        usage = self.usage(said)
        if self.body.get("stream"):
            self._end_stream(reason, usage)
        else:
            self._reply_whole(reason, usage)

    def _end_stream(self, reason: str, usage: dict[str, Any]) -> None:
        unsaid = ',"text":""' + UNSAID[1:] if self.raw else UNSAID
        pieces = [head + unsaid.replace('reason":null', f'reason":"{reason}"') + END for head in self.heads]
        if (self.body.get("stream_options") or {}).get("include_usage"):
            pieces.append(f'{self.heads[0].partition("[")[0]}[],"usage":{orjson.dumps(usage).decode()}}}\n\n')
        self.link.piece("".join(pieces) + "data: [DONE]\n\n", last=True)

    def _reply_whole(self, reason: str, usage: dict[str, Any]) -> None:
        text = "".join(map(self.script.word, range(self.begun + 1, self.said + 1)))
        message = {"role": "assistant", "content": text, "reasoning_content": None}
        rest = {"message": message, "logprobs": None, "finish_reason": reason, "matched_stop": None}
        choices = [{"index": index} | rest for index in range(len(self.ids))]
        named = {"id": self.ids[0], "object": "chat.completion"} | self.named
        self.link.reply(200, named | {"choices": choices, "usage": usage})


class Link(asyncio.Protocol):
    """One connection: HTTP/1.1, one request at a time, bodies with a length."""

    def __init__(self, engine: "FakeEngine") -> None:
        self.engine = engine
        self.received = b""
        self.streaming = False
        self.answer: Answer | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.engine.links.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.engine.links.discard(self)
        if self.answer:
            self.answer.abort("disconnect")

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if found and len(rest) >= length:
            self.received = rest[length:]
            method, target, _ = head.decode().split(" ", 2)
            self.engine.serve(self, method, target, rest[:length])

    def reply(self, status: int, document: Any = None) -> None:
        body = b"" if document is None else orjson.dumps(document)
        head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def piece(self, text: str, *, last: bool = False) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        end = "0\r\n\r\n" if last else ""
        self.transport.write(f"{'' if self.streaming else head}{len(text):x}\r\n{text}\r\n{end}".encode("ascii"))
        self.streaming = not last


class FakeEngine:
    def __init__(self, script: str = "", *, port: int = 0, model: str = "tiny", context_length: int = 8192) -> None:
        self.script, self.port, self.model, self.context_length = Script().read(script), port, model, context_length
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEEP)
        self.aborted: deque[Aborted] = deque(maxlen=KEEP)
        self.seen = self.finished = self.tokens = 0
        self.answers: set[Answer] = set()
        self.links: set[Link] = set()
        self._known: set[int] = set()
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Link(self), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Port and connections are gone, as a killed process's are.  Entered again, it listens on the same port."""
        self._server.close()
        for link in tuple(self.links):
            link.transport.abort()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> int:
        return len(self.answers)

    async def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Returns once `holds`, which is asked after each thing that happens here.  Raises TimeoutError."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = holds
        self.changed()
        try:
            await asyncio.wait_for(future, timeout_s)
        finally:
            del self._waiting[future]

    def changed(self) -> None:
        for future, holds in self._waiting.items():
            if not future.done() and holds():
                future.set_result(None)

    def state(self) -> dict[str, Any]:
        counts = {"running": self.running, "seen": self.seen, "finished": self.finished, "tokens": self.tokens}
        return counts | {"aborted": len(self.aborted), "aborts": list(self.aborted)}

    def remember(self, body: dict[str, Any]) -> tuple[int, int]:
        """Words of the prompt, and how many of them stand in messages that began an earlier prompt, too."""
        chain, words, cached = hash(body.get("cache_salt")), _ids_said(body), 0
        for message in _messages(body):
            chain = hash((chain, message["role"], str(message.get("content"))))
            words += 1 + len(str(message.get("content")).split())
            cached = words if chain in self._known else cached
            self._known.add(chain)
        return words, min(cached, words - 1)

    def serve(self, link: Link, method: str, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        handler = ROUTES.get((method, path))
        if handler:
            handler(self, link, orjson.loads(body or b"{}"), dict(parse_qsl(query)))
        else:
            link.reply(404, {"detail": "Not Found"})

    def chat(self, link: Link, body: dict[str, Any], _: object) -> None:
        self.seen += 1
        self.requests.append(body)
        try:
            script = self.script.read(str(body.get("model")).partition("!")[2]).read(_last_words(body))
        except (KeyError, ValueError) as error:
            return link.reply(400, _error(f"no such script: {error}", 400))
        if script.status != 200:
            link.reply(script.status, _error(f"scripted {script.status}", script.status))
        elif script.error_event and script.fail_after < 0 and body.get("stream"):
            link.piece(ERROR_EVENT, last=True)
        elif script.error_event and script.fail_after < 0:
            link.reply(503, FULL)
        elif script.die and script.fail_after < 0:
            self.die()
        else:
            link.answer = Answer(self, link, body, script)
            if 0 < script.together <= len(self.answers):
                for answer in self.answers:
                    answer.come_together()
        return self.changed()

    def tokenize(self, link: Link, body: dict[str, Any], _: object) -> None:
        if "messages" in body:
            words = sum(1 + len(str(message.get("content")).split()) for message in body["messages"])
            return link.reply(200, {"tokens": list(range(1, words + 1))})
        if isinstance(body["prompt"], str):
            return link.reply(200, {"tokens": list(range(1, 1 + len(body["prompt"].split())))})
        numbers = [[int(text) for text in piece.split() if text.isdigit()] for piece in body["prompt"]]
        return link.reply(200, {"tokens": [[FIRST_ID + number for number in piece] for piece in numbers]})

    def detokenize(self, link: Link, body: dict[str, Any], _: object) -> None:
        link.reply(200, {"text": "".join(word(token - FIRST_ID) for token in body["tokens"])})

    def abort(self, link: Link, body: dict[str, Any], _: object) -> None:
        for answer in tuple(self.answers):
            # By prefix, as the real one; an empty id means nobody.
            if body.get("abort_all") or (body.get("rid") and answer.ids[0].startswith(body["rid"])):
                answer.abort("request")
        link.reply(200)

    def flush(self, link: Link, *_: object) -> None:
        self._known.clear()
        link.reply(200)

    def models(self, link: Link, *_: object) -> None:
        about = {"id": self.model, "object": "model", "owned_by": "sglang", "max_model_len": self.context_length}
        link.reply(200, {"object": "list", "data": [about]})

    def loads(self, link: Link, *_: object) -> None:
        counts = {"num_running_reqs": self.running, "num_waiting_reqs": 0, "num_used_tokens": self.tokens}
        link.reply(
            200, {"loads": [counts | {"total_prefill_uncached_tokens": self.seen, "decode_moments": self.tokens}]}
        )

    def model_info(self, link: Link, *_: object) -> None:
        link.reply(200, {"model_path": self.model, "is_generation": True, "tool_call_parser": None})

    def wait(self, link: Link, _: object, wanted: dict[str, str]) -> None:
        task = asyncio.get_running_loop().create_task(self._wait(link, float(wanted.pop("timeout_s", "10")), wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, link: Link, timeout_s: float, wanted: dict[str, str]) -> None:
        def holds() -> bool:
            now = self.state()
            least = [now[name[4:]] >= int(value) for name, value in wanted.items() if name.startswith("min_")]
            return all(least) and all(now[name] == int(value) for name, value in wanted.items() if name in now)

        try:
            await self.until(holds, timeout_s)
            link.reply(200, self.state())
        except TimeoutError:
            link.reply(408, self.state())


def word(number: int, name: str = "token") -> str:
    return f" {name} {number}" if number > 1 else f"{name} 1"


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    return body.get("messages") or [{"role": "user", "content": body["prompt"]}]


def _ids_said(body: dict[str, Any]) -> int:
    ids = body["prompt"] if isinstance(body.get("prompt"), list) else body.get("input_ids")
    return sum(token > FIRST_ID for token in ids or ())


def _said_before(body: dict[str, Any]) -> int:
    last = _messages(body)[-1]["content"] if body.get("continue_final_message") else ""
    return _ids_said(body) or last.count("token")


def _last_words(body: dict[str, Any]) -> str:
    said = [message.get("content") for message in _messages(body) if message["role"] == "user"]
    text = said[-1] if said and isinstance(said[-1], str) else ""
    return text[1:] if text.startswith("!") else ""


def _error(message: str, status: int) -> dict[str, Any]:
    kind = "BadRequestError" if status == 400 else "InternalServerError"
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


ROUTES: dict[tuple[str, str], Callable[..., None]] = {
    ("POST", "/v1/chat/completions"): FakeEngine.chat,
    ("POST", "/v1/completions"): FakeEngine.chat,
    ("POST", "/abort_request"): FakeEngine.abort,
    ("POST", "/v1/tokenize"): FakeEngine.tokenize,
    ("POST", "/v1/detokenize"): FakeEngine.detokenize,
    ("POST", "/flush_cache"): FakeEngine.flush,
    ("GET", "/v1/models"): FakeEngine.models,
    ("GET", "/model_info"): FakeEngine.model_info,
    ("GET", "/ready"): lambda _, link, *__: link.reply(200),
    ("GET", "/v1/loads"): FakeEngine.loads,
    ("GET", "/health_generate"): lambda _, link, *__: link.reply(200),
    ("GET", "/health"): lambda _, link, *__: link.reply(200),
    ("GET", "/_state"): lambda engine, link, *_: link.reply(200, engine.state()),
    ("GET", "/_requests"): lambda engine, link, *_: link.reply(200, list(engine.requests)),
    ("GET", "/_wait"): FakeEngine.wait,
}


async def serve_as_process(script: str, port: int) -> None:
    async with FakeEngine(script, port=port) as engine:
        engine.die = lambda: os._exit(1)
        sys.stdout.write(orjson.dumps({"port": engine.port, "url": engine.url}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    options = argparse.ArgumentParser(description="A scripted engine in the shape of SGLang")
    options.add_argument("--port", type=int, default=0)
    options.add_argument(
        "--script", default="", help="what it does where a request does not say, as in 'tokens=100 rate=50'"
    )
    chosen = options.parse_args()
    uvloop.run(serve_as_process(chosen.script, chosen.port))
