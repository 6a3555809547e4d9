"""Where do bytes too large for a row live?

In a directory or in an S3 bucket; `infra.objects.store` says what both promise.
"""

from pathlib import Path

from infra.objects.directory import DirectoryStore
from infra.objects.s3 import S3Store
from infra.objects.store import ObjectStore, read
from models.errors import InvalidRequest

__all__ = ["DirectoryStore", "ObjectStore", "S3Store", "open_store", "read"]


def open_store(url: str) -> ObjectStore:
    """The store at `file:/path` or `s3://bucket/prefix`, still to be opened.  Keys to a bucket come from `AWS_*` variables."""
    scheme, _, rest = url.partition(":")
    if scheme == "file" and (path := rest.removeprefix("//")).startswith("/"):
        return DirectoryStore(Path(path))
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if scheme == "s3" and rest.startswith("//") and bucket:
        return S3Store(bucket, prefix.strip("/"))
    raise InvalidRequest("objects live at file:/path or s3://bucket/prefix", param="objects_url")
