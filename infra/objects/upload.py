"""How does a stream of unknown length become one object of a bucket?  Part by part, in the memory of two parts.

It is there whole or not at all: a stream that breaks off ends the upload and leaves nothing.  For files that people ask for by an
address of their own; what the service itself keeps goes through `ObjectStore`.
"""

from collections.abc import Iterator
from io import RawIOBase
from typing import IO, Any, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from models.errors import InvalidRequest, Unavailable

PART_BYTES = 16 << 20
"""Of up to 10,000 that S3 takes: 160 GB."""
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)


def upload(address: str, pieces: Iterator[bytes]) -> None:
    """To `s3://bucket/key`; keys to the bucket come from `AWS_*` variables.  Raises InvalidRequest, Unavailable."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket or not key or key.endswith("/"):
        raise InvalidRequest(f"{address}: write s3://bucket/key", param="output")
    try:
        client = boto3.session.Session().client("s3")
        client.upload_fileobj(cast("IO[Any]", _Readable(pieces)), bucket, key, Config=_TRANSFER)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(f"the bucket did not take it: {error}") from error


class _Readable(RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> Any:
        wanted = PART_BYTES if size is None or size < 0 else size
        parts, length = [self._held], len(self._held)
        while length < wanted and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            length += len(piece)
        whole = b"".join(parts)
        self._held = whole[wanted:]
        return whole[:wanted]
