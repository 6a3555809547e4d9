"""How does a bucket keep what a store promises?

By conditional writes (`If-None-Match`).  Half of the S3-likes take them and replace all the same, so each is tried out at start;
where they are not honoured `put_new` is only as good as look-then-write, and says so.  Relies on boto3, whose standard `AWS_*`
variables tell keys, region and endpoint.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypedDict, TypeVar
from uuid import uuid4

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.objects.store import THREADS, Threads, checked, checked_prefix, gathered
from models.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedMultipartUploadTypeDef, CompletedPartTypeDef

T = TypeVar("T")

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=THREADS,
    # The default sends checksums that not every S3-like knows, and fails where one answers a range with that of the whole.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)

_PART_BYTES = 8 << 20
"""S3 takes ten thousand parts of at least 5 MiB."""
_STALE = timedelta(days=1)  # no write takes a day

_log = structlog.get_logger()


class Where(TypedDict):
    Bucket: str
    Key: str


class Upload(Where):
    UploadId: str


class S3Store:
    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{checked(prefix)}/" if prefix else ""
        self._threads = Threads()
        self._opened: S3Client | None = None
        self._conditional = False

    @property
    def conditional(self) -> bool:
        """Does the server refuse to replace when asked?  If not, two writers of one new key may both be told True."""
        return self._conditional

    async def open(self) -> None:
        with _faults():
            self._opened = await self._threads.run(lambda: boto3.session.Session().client("s3", config=_CONFIG))
            self._conditional = await self._threads.run(self._probe)
            await self._threads.run(self._sweep)
        if not self._conditional:
            _log.warning("objects.conditional_writes_ignored", bucket=self._bucket)

    async def close(self) -> None:
        await self._threads.close()
        if self._opened:
            self._opened.close()

    async def put(self, key: str, data: bytes) -> None:
        await self._call(partial(self._s3.put_object, Bucket=self._bucket, Key=self._named(key), Body=data))

    async def put_new(self, key: str, data: bytes) -> bool:
        create = self._create if self._conditional else self._look_then_create
        return await self._call(partial(create, self._named(key), data))

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        parts = gathered(pieces, _PART_BYTES)
        first = await anext(parts, b"")
        if len(first) >= _PART_BYTES:
            return await self._put_parts({"Bucket": self._bucket, "Key": self._named(key)}, first, parts)
        await self.put(key, first)
        return len(first)

    async def get(self, key: str) -> bytes:
        return await self._call(partial(self._read, self._named(key)))

    async def get_part(self, key: str, start: int, size: int) -> bytes:
        return await self._call(partial(self._read_part, self._named(key), f"bytes={start}-{start + size - 1}"))

    async def delete(self, key: str) -> None:
        await self._call(partial(self._s3.delete_object, Bucket=self._bucket, Key=self._named(key)))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        begins = self._prefix + "".join(checked_prefix(prefix))
        pages = iter(self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=begins))
        while page := await self._call(partial(next, pages, None)):
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._prefix)

    @property
    def _s3(self) -> "S3Client":
        assert self._opened, "open() comes first"
        return self._opened

    def _named(self, key: str) -> str:
        return self._prefix + checked(key)

    async def _call(self, call: Callable[[], T]) -> T:
        with _faults():
            return await self._threads.run(call)

    async def _put_parts(self, where: "Where", first: bytes, rest: AsyncIterator[bytes]) -> int:
        begun = await self._call(partial(self._s3.create_multipart_upload, **where))
        upload: Upload = {**where, "UploadId": begun["UploadId"]}
        try:
            done, size = [await self._put_part(upload, 1, first)], len(first)
            async for part in rest:
                done.append(await self._put_part(upload, len(done) + 1, part))
                size += len(part)
            whole: CompletedMultipartUploadTypeDef = {"Parts": done}
            await self._call(partial(self._s3.complete_multipart_upload, **upload, MultipartUpload=whole))
        except BaseException:
            await asyncio.shield(self._threads.run(partial(self._abort, upload)))
            raise
        return size

    async def _put_part(self, upload: "Upload", number: int, part: bytes) -> "CompletedPartTypeDef":
        put = partial(self._s3.upload_part, **upload, PartNumber=number, Body=part)
        return {"ETag": (await self._call(put))["ETag"], "PartNumber": number}

    def _abort(self, upload: "Upload") -> None:
        try:
            self._s3.abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError, OSError) as fault:
            _log.warning("objects.parts_left", key=upload["Key"], fault=type(fault).__name__)

    def _probe(self) -> bool:
        name = f"{self._prefix}probe-{uuid4().hex}"
        try:
            honoured = self._create(name, b"") and not self._create(name, b"")
        except ClientError as fault:
            if _status(fault) != HTTPStatus.NOT_IMPLEMENTED:
                raise
            self._s3.put_object(Bucket=self._bucket, Key=name, Body=b"")
            honoured = False
        self._s3.delete_object(Bucket=self._bucket, Key=name)
        return honoured

    def _sweep(self) -> None:
        """Parts of what a process that died was writing: no list shows them, and they are paid for."""
        before = datetime.now(UTC) - _STALE
        try:
            begun = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix).get("Uploads", ())
        except ClientError as fault:
            _log.info("objects.parts_not_listed", bucket=self._bucket, status=_status(fault))  # some S3-likes cannot
            return
        for each in begun:
            if each["Initiated"] < before:
                self._abort({"Bucket": self._bucket, "Key": each["Key"], "UploadId": each["UploadId"]})

    def _create(self, name: str, data: bytes) -> bool:
        mark = uuid4().hex
        try:
            self._s3.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*", Metadata={"writer": mark})
        except ClientError as fault:
            if _status(fault) != HTTPStatus.PRECONDITION_FAILED:
                raise
            return _retried(fault) and self._marked(name, mark)
        return True

    def _marked(self, name: str, mark: str) -> bool:
        """boto3 tries again when an answer is lost; what it then finds in the way may be what it wrote itself."""
        return self._s3.head_object(Bucket=self._bucket, Key=name)["Metadata"].get("writer") == mark

    def _look_then_create(self, name: str, data: bytes) -> bool:
        try:
            self._s3.head_object(Bucket=self._bucket, Key=name)
        except ClientError as fault:
            if _status(fault) != HTTPStatus.NOT_FOUND:
                raise
            self._s3.put_object(Bucket=self._bucket, Key=name, Body=data)
            return True
        return False

    def _read(self, name: str) -> bytes:
        return self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read()

    def _read_part(self, name: str, wanted: str) -> bytes:
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=name, Range=wanted)["Body"].read()
        except ClientError as fault:
            if _status(fault) != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return b""


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except ClientError as fault:
        code = fault.response.get("Error", {}).get("Code", "")
        if code == "NoSuchKey":
            raise NotFound("there is no such object") from fault
        raise Unavailable(f"the object store answers {code}") from fault
    except (BotoCoreError, OSError) as fault:
        raise Unavailable(f"the object store cannot be used ({type(fault).__name__})") from fault


def _status(fault: ClientError) -> int:
    return fault.response["ResponseMetadata"]["HTTPStatusCode"]


def _retried(fault: ClientError) -> bool:
    return fault.response["ResponseMetadata"]["RetryAttempts"] > 0
