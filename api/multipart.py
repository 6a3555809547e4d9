"""How does a file come in?  As `multipart/form-data` that is read while it comes: the file's bytes pass through, fields are kept.

Relies on python-multipart to find the parts.  Knows one file, named `file`, and words beside it, before or behind it; refuses
whatever else a form can be, and a body that ends in its middle.
"""

from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from models.errors import InvalidRequest, TooLarge

FIELDS_MOST = 16
FIELD_BYTES = 1024
AROUND_BYTES = 64 << 10
"""What a form may have beside its file's bytes: fields, and the heads of its parts."""
NAME_CHARACTERS = 255


class Form:
    """`pieces` comes first, to its end; what else was in the form is known then."""

    def __init__(self, boundary: bytes, body: AsyncIterator[bytes], most_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self._body, self._most = body, most_bytes
        self._size = self._around = 0
        self._header, self._disposition, self._value = b"", b"", b""
        self._name = ""
        self._field = bytearray()
        self._passing: list[bytes] = []
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file's bytes.  Raises InvalidRequest that names what is wrong, TooLarge."""
        async for chunk in self._body:
            self._around += len(chunk)
            self._parse(chunk)
            for piece in self._passing:
                yield piece
            self._passing.clear()
        if not self._ended:
            raise InvalidRequest("the form ends in its middle", param=self._name or "body")
        if not self.filename:
            raise InvalidRequest("file: the form has no file of this name", param="file")

    def _parse(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest(f"the form is malformed: {error}", param=self._name or "body") from None
        if self._around - self._size > AROUND_BYTES + len(chunk):
            raise TooLarge("the form has too much beside its file", param="body")

    def _part_begin(self) -> None:
        self._disposition = b""
        self._field.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, told = parse_options_header(self._disposition)
        self._name = told.get(b"name", b"").decode(errors="replace")[:100]
        if not self._name or "\0" in self._name:
            raise InvalidRequest("each part of the form has a name", param="body")
        if self._name == "file":
            self._open(told.get(b"filename"))
        elif b"filename" in told:
            raise InvalidRequest(f"{self._name}: the form has one file, `file`", param=self._name)
        elif self._name in self.fields or len(self.fields) >= FIELDS_MOST:
            raise InvalidRequest(f"{self._name}: given too often", param=self._name)

    def _open(self, filename: bytes | None) -> None:
        if self.filename:
            raise InvalidRequest("file: the form has one file", param="file")
        if filename is None:
            raise InvalidRequest("file: has to be a file, with a filename", param="file")
        name = PurePosixPath(filename.decode(errors="replace").replace("\\", "/")).name or "file"
        if len(name) > NAME_CHARACTERS or not name.isprintable():
            raise InvalidRequest(f"file: a filename has at most {NAME_CHARACTERS} printable characters", param="file")
        self.filename = name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name != "file":
            self._field += data[start:end]
            if len(self._field) > FIELD_BYTES:
                raise InvalidRequest(f"{self._name}: has more than {FIELD_BYTES} bytes", param=self._name)
            return
        self._size += end - start
        if self._size > self._most:
            raise TooLarge(f"file: has more than {self._most} bytes", param="file")
        self._passing.append(data[start:end])

    def _part_end(self) -> None:
        if self._name != "file":
            try:
                self.fields[self._name] = self._field.decode()
            except UnicodeDecodeError:
                raise InvalidRequest(f"{self._name}: is not UTF-8", param=self._name) from None
        self._name = ""

    def _end(self) -> None:
        self._ended = True


def form_of(request: Request, most_bytes: int) -> Form:
    """The request's form, still to be read.  Raises InvalidRequest, TooLarge."""
    kind, told = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not told.get(b"boundary"):
        raise InvalidRequest("send the file as multipart/form-data, with its boundary", param="Content-Type")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most_bytes + AROUND_BYTES:
        raise TooLarge(f"file: has more than {most_bytes} bytes", param="file")
    try:
        return Form(told[b"boundary"], _body(request), most_bytes)
    except FormParserError as error:
        raise InvalidRequest(f"the form is malformed: {error}", param="Content-Type") from None


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise InvalidRequest("the body broke off", param="body") from None
