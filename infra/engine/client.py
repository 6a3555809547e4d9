"""How is the engine asked?  Always by a stream: a request that streams is aborted within a moment of letting go of it.

Relies on an OpenAI-compatible chat completions endpoint (for raw prompts: completions, `infra.engine.raw`).  Of SGLang it uses more: a
request id of ours (`rid`) that can be aborted by name, and a salt that keeps accounts apart in its prefix cache; a server that is not
SGLang is sent neither.

Engine failures become `models.errors`: what the caller did wrong is `InvalidRequest`, what trying again may mend is `retryable`.
"""

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from infra.engine import raw
from infra.engine.tool_calls import shaped
from infra.keepalive import kept_alive
from infra.outbound import IDLE_S
from models.errors import ContextLengthExceeded, EngineBusy, EngineError, EngineLost, InvalidRequest, TramError

_CONNECT_S = 5.0
_PROBE_S = 2.0
_ASK_S = 10.0  # a quick answer by a busy engine
_SHAPING = ("tools", "tool_choice", "continue_final_message")  # what of a request shapes its prompt beside the messages
_LONGEST_LINE_BYTES = 16 << 20  # a chunk of logprobs is large; more than this is not a chunk
_HTTP_OK, _HTTP_BAD_REQUEST, _HTTP_SERVER = 200, 400, 500
_GATEWAY = frozenset({502, 504})  # before an engine that is away, or slow
_LATER = _GATEWAY | {429, 503}  # and one whose quota is used up, or whose queue is full
_JSON = {"Content-Type": "application/json"}
_PLACE = re.compile(r"\[[\d:]+\] \S+:\d+: ")  # where in the grammar compiler's sources it was said
_MESSAGE_CHARACTERS = 500  # some of its messages hold the whole grammar
_GRAMMAR = re.compile(r"(?:compile |grammar_key=\(')(json|regex|structural_tag)")
_GRAMMARS = {
    "json": "response_format",
    "regex": "regex",
    "structural_tag": "tools",
}  # what its kinds of grammar are made of
_NAMED = re.compile(r"logit_bias|Tool (\d+) function")
_DEAD_END = "Grammar accept_token failed"  # the grammar lets no token through
_NO_PARSER = re.compile(rb'"tool_call_parser"\s*:\s*null')
_DATA, _DONE = b"data:", b"[DONE]"
SILENT_S = 600.0
"""Without a byte from a server that has no counters to tell slow from stuck; as long as OpenAI's clients wait.  An SGLang is watched."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids of a chat: what the engine is prompted with, and what it has answered."""

    prompt: list[int]
    answer: list[int]


class EngineClient:
    """One a process: its connections are reused.  `url` is the server's root, without `/v1`."""

    def __init__(self, url: str, model: str, api_key: str = "") -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http: aiohttp.ClientSession | None = None
        self._is_sglang: bool | None = None
        self._leaves_calls = False
        """An SGLang that has no parser for tool calls; what does not tell may have one."""

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, socket_factory=kept_alive)
        self._http = aiohttp.ClientSession(
            connector=connector, headers=self._headers, read_bufsize=1 << 18, trust_env=False
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def is_ready(self) -> bool:
        """Whether it takes requests now; SGLang tells cheaply, others are asked for their models."""
        return await self._answers("/ready") or await self._answers("/v1/models")

    async def stream(
        self, parameters: Mapping[str, Any], messages: list[dict[str, Any]], *, rid: str, cache_salt: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Each chunk as the engine sends it, parsed; the last ones carry `usage`.  Letting go of it aborts the request."""
        chat = raw.ChatChunks(parameters) if parameters.get("raw") else None
        body = {**parameters, "messages": messages} if chat is None else raw.asked(parameters, messages)
        body["model"] = self._model
        options = {"include_usage": True}
        if await self.is_sglang():
            body |= {"rid": rid, "cache_salt": cache_salt}
            options |= {"continuous_usage_stats": True}  # who breaks off in the middle has still counted
            body |= shaped(parameters) if self._leaves_calls else {}
        body |= {"stream": True, "stream_options": options}
        silent_s = None if self._is_sglang else SILENT_S
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=silent_s)
        try:
            path = self._url + ("/v1/chat/completions" if chat is None else "/v1/completions")
            async with self._session.post(path, data=orjson.dumps(body), headers=_JSON, timeout=timeout) as answer:
                if answer.status >= _HTTP_BAD_REQUEST:
                    raise await self._why(answer)
                async for chunk in _chunks(answer):
                    yield chunk if chat is None else chat.of(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineLost(f"the connection to the engine broke: {type(error).__name__}") from error

    async def abort(self, rid: str) -> None:
        """Frees the engine's slot at once, where it can be asked to; a lost request is not an error."""
        if not self._is_sglang:
            return
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            timeout = aiohttp.ClientTimeout(total=_PROBE_S)
            async with self._session.post(f"{self._url}/abort_request", json={"rid": rid}, timeout=timeout):
                pass

    async def ids_of(
        self, parameters: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], pieces: Sequence[str]
    ) -> Ids | None:
        """For SGLang: the ids of a prompt and of an answer said in `pieces`; None where the pieces' ids read differently.

        A tokenizer that marks the beginning of each text does that; Mistral's and the toy's do not.  None, too, where the engine is
        of a release that does not tell.  Raises EngineLost, EngineError.
        """
        try:
            return await self._ids_of(parameters, messages, pieces)
        except InvalidRequest:
            return None

    async def _ids_of(
        self, parameters: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], pieces: Sequence[str]
    ) -> Ids | None:
        shaping = {name: parameters[name] for name in _SHAPING if name in parameters}
        shown = {"prompt": messages[0]["content"]} if parameters.get("raw") else {"messages": messages} | shaping
        prompt = await self._ask("/v1/tokenize", shown)
        answer = await self._ask("/v1/tokenize", {"prompt": pieces, "add_special_tokens": False})
        ids = [token for piece in answer["tokens"] for token in piece]
        read = await self._ask("/v1/detokenize", {"tokens": ids})
        return Ids(prompt["tokens"], ids) if read["text"] == "".join(pieces) else None

    async def is_sglang(self) -> bool:
        """Only SGLang goes on with a message that has begun (`continue_final_message`), aborts by id and salts its cache.

        Raises EngineLost: who did not answer has not said no, and to be taken for another would cost accounts their salts.  Nor has a
        gateway that says 404 to everything while its engine starts.
        """
        if self._is_sglang is None:
            status, told = await self._got("/model_info") if await self.is_ready() else (None, b"")
            if status is None or status >= _HTTP_SERVER:
                raise EngineLost("the engine does not say what it is")
            self._leaves_calls = _NO_PARSER.search(told) is not None
            self._is_sglang = status == _HTTP_OK
        return self._is_sglang

    async def _why(self, answer: aiohttp.ClientResponse) -> TramError:
        told = await answer.read()
        if answer.status in _GATEWAY and not await self.is_ready():
            return EngineLost(f"a gateway answered {answer.status}, and the engine behind it takes no requests")
        return _refusal(answer.status, told)

    async def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            timeout = aiohttp.ClientTimeout(total=_ASK_S)
            async with self._session.post(
                self._url + path, data=orjson.dumps(body | {"model": self._model}), headers=_JSON, timeout=timeout
            ) as answer:
                told = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineLost(f"the connection to the engine broke: {type(error).__name__}") from error
        if answer.status >= _HTTP_BAD_REQUEST:
            raise _refusal(answer.status, told)
        parsed: dict[str, Any] = orjson.loads(told)
        return parsed

    async def _answers(self, path: str) -> bool:
        return (await self._got(path))[0] == _HTTP_OK

    async def _got(self, path: str) -> tuple[int | None, bytes]:
        """Status and body; no status where nobody answers."""
        try:
            timeout = aiohttp.ClientTimeout(total=_PROBE_S)
            async with self._session.get(self._url + path, timeout=timeout) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, b""

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "open() comes first"
        return self._http


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
    """Server-sent events to parsed chunks; ends at `[DONE]`, and a stream that stops without it is a lost engine."""
    rest = b""
    async for data in answer.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_LINE_BYTES:
            raise EngineError("the engine sent a line without end")
        for line in lines:
            if not line.startswith(_DATA):
                continue
            text = line[len(_DATA) :].strip()
            if text == _DONE:
                return
            yield _chunk(text)
    raise EngineLost("the engine's stream ended before its answer did")


def _chunk(text: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise EngineError("the engine sent a chunk that is not JSON") from error
    if not isinstance(chunk, dict):
        raise EngineError("the engine sent a chunk that is no object")
    if failure := chunk.get("error"):
        raise _failure(failure)
    return chunk


def _refusal(status: int, body: bytes) -> TramError:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = {}
    told = told if isinstance(told, dict) else {}
    failure = told.get("error") or told
    return _failure(failure if isinstance(failure, dict) else {"message": str(failure)}, status)


def _failure(failure: Mapping[str, Any], status: int | None = None) -> TramError:
    """SGLang puts the status into `code`; a full queue is 503 in both of its ways of saying so."""
    code = failure.get("code")
    status = status or (code if isinstance(code, int) else _HTTP_SERVER)
    message = _PLACE.sub("", str(failure.get("message") or f"the engine answered {status}"))[:_MESSAGE_CHARACTERS]
    if status in _LATER:
        return EngineBusy(message)
    if message.startswith(_DEAD_END):
        return InvalidRequest("the grammar came to a point from which no answer can go on")
    if status >= _HTTP_SERVER:
        return EngineError(f"the engine failed: {message}")
    if "context length" in message:
        return ContextLengthExceeded(message, param="messages")
    return InvalidRequest(message, param=failure.get("param") or _blamed(message))


def _blamed(message: str) -> str | None:
    """The parameter that SGLang speaks of; it names none itself."""
    if grammar := _GRAMMAR.search(message):
        return _GRAMMARS[grammar[1]]
    if named := _NAMED.match(message):
        return f"tools[{named[1]}].function.parameters" if named[1] else named[0]
    return None
