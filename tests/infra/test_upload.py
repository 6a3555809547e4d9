"""A stream of any length becomes one object of a bucket, or nothing."""

import io
import os
from uuid import uuid4

import boto3
import pytest

from infra.objects.upload import PART_BYTES, upload
from models.errors import InvalidRequest, Unavailable


@pytest.fixture
def bucket(rclone_url: str, aws) -> str:
    name = f"bucket-{uuid4().hex[:12]}"
    aws(rclone_url, name)
    return name


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + (1 << 20)])
def test_it_arrives_whole(bucket, size):
    data = os.urandom(size)
    source = io.BytesIO(data)
    upload(f"s3://{bucket}/a/b.jsonl", iter(lambda: source.read(70_001), b""))
    assert boto3.session.Session().client("s3").get_object(Bucket=bucket, Key="a/b.jsonl")["Body"].read() == data


def test_a_stream_that_breaks_off_leaves_nothing(bucket):
    def pieces():
        yield bytes(1 << 20)
        raise Unavailable("it stopped")

    with pytest.raises(Unavailable, match="it stopped"):
        upload(f"s3://{bucket}/broken", pieces())
    assert "Contents" not in boto3.session.Session().client("s3").list_objects_v2(Bucket=bucket, Prefix="broken")


@pytest.mark.parametrize("address", ["s3://", "s3://bucket", "s3://bucket/", "s3://bucket/a/"])
def test_an_address_names_an_object(address):
    with pytest.raises(InvalidRequest):
        upload(address, iter([]))


def test_a_bucket_that_is_not_there_is_told(bucket):
    with pytest.raises(Unavailable, match="bucket"):
        upload("s3://nobodys/a", iter([b"x"]))
