"""What is on the lines of a batch's file, and what is wrong with them?  OpenAI's form: `custom_id`, `method`, `url`, `body`.

Lines come as they are read, and little is kept of each: what tells names apart, and where its row stands in the order of feeding.  What
is wrong with a line's form ends the batch before it begins, and is told with its number; what is wrong with the request that it holds
is its row's own failure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import alike
from models.batches import NewRow
from models.errors import InvalidRequest
from models.wire import bodies
from models.wire.problems import validated
from models.wire.texts import chat_of

ROWS_MOST = 50_000
BYTES_MOST = 200 << 20
"""Both as with OpenAI."""
ERRORS_MOST = 100
"""Who has more has one mistake, made often."""
AROUND_BYTES = 4096
"""What a line has beside its body."""
CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
_BOM = b"\xef\xbb\xbf"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


@dataclass
class Input:
    """One reading of a file."""

    endpoint: str
    body_most_bytes: int
    errors: list[dict[str, Any]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    """Of each row, in their order."""
    _line: int = 0
    _rows: int = 0
    _names: set[bytes] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether reading on would tell nothing new."""
        return len(self.errors) >= ERRORS_MOST or len(self.keys) > ROWS_MOST

    def look(self, lines: Iterable[bytes]) -> None:
        """The first reading: is every line in form, and in which order are they fed?"""
        for line, raw, told in self._read(lines):
            # A row whose body is too deep for any encoder is refused by the second reading: it may stand anywhere.
            self.keys.append(b"" if bodies.too_deep(raw, told.body) else alike.key(told.body))
            name = blake2b(told.custom_id.encode(), digest_size=12).digest()
            if name in self._names:
                self._wrong(
                    line, "duplicate_custom_id", f"custom_id: {told.custom_id[:100]!r} came before", "custom_id"
                )
            self._names.add(name)
        if len(self.keys) > ROWS_MOST:
            self._wrong(None, "too_many_tasks", f"a batch has at most {ROWS_MOST} rows", "input_file_id")

    def end(self) -> None:
        """The file has no more lines."""
        if not self.keys and not self.errors:
            self._wrong(None, "empty_file", "the file has no rows", "input_file_id")

    def rows(self, lines: Iterable[bytes], places: Sequence[int]) -> list[NewRow]:
        """The second reading, of a file in form, which had as many rows as there are `places`."""
        return [self._row(_Line.model_validate(bodies.read(raw)), raw, places) for raw in self._lines(lines)]

    def _row(self, told: _Line, raw: bytes, places: Sequence[int]) -> NewRow:
        number, self._rows = self._rows, self._rows + 1
        try:
            return NewRow(number, self._request(raw, told.body), places[number], told.custom_id)
        except InvalidRequest as error:
            return NewRow(number, None, places[number], told.custom_id, error=error.as_json())

    def _request(self, raw: bytes, body: dict[str, Any]) -> dict[str, Any]:
        """The chat that it asks for; what else is wrong with it is found when it is fed."""
        _check(raw, body)
        if body.get("stream"):
            raise InvalidRequest("stream: a batch's answers are read from its file", param="stream")
        return chat_of(body) if self.endpoint == TEXTS else body

    def _read(self, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes, _Line]]:
        for raw in self._lines(lines):
            try:
                told = validated(_Line, bodies.read(raw))
            except InvalidRequest as error:
                self._wrong(self._line, *_fault(error))
                continue
            if told.url != self.endpoint:
                self._wrong(self._line, "invalid_url", f"url: has to be the batch's endpoint, {self.endpoint}", "url")
            yield self._line, raw, told

    def _lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those that say something."""
        for raw in lines:
            self._line += 1
            text = raw.removeprefix(_BOM) if self._line == 1 else raw
            if len(text) > self.body_most_bytes + AROUND_BYTES:
                self._wrong(self._line, "line_too_long", f"a body has at most {self.body_most_bytes} bytes", "body")
            elif text.strip():
                yield text

    def _wrong(self, line: int | None, code: str, message: str, param: str | None) -> None:
        if len(self.errors) < ERRORS_MOST:
            self.errors.append({"code": code, "message": message, "param": param, "line": line})


def _check(raw: bytes, body: dict[str, Any]) -> None:
    """Raises InvalidRequest that names the place in the body, and not in its line."""
    try:
        bodies.check(raw, {"body": body})
    except InvalidRequest as error:
        param = (error.param or "body").removeprefix("body.")
        raise InvalidRequest(error.message.removeprefix("body."), param=param, code=error.own_code) from None


def _fault(error: InvalidRequest) -> tuple[str, str, str | None]:
    """In OpenAI's words."""
    if error.own_code == "invalid_json":
        return "invalid_json_line", "this line is no JSON object", None
    param = error.param or "body"
    code = (
        "missing_required_parameter"
        if error.message.endswith("Field required")
        else f"invalid_{param.partition('.')[0]}"
    )
    return code, error.message, param
