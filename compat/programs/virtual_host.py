"""boto3 with buckets as host names. What ends in .localhost is this host, which not every resolver
knows."""

import io
import os
import socket
import sys
import urllib.request
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

resolve = socket.getaddrinfo


def resolve_here(host, *words, **options):
    """*.localhost is 127.0.0.1."""
    name = host.decode() if isinstance(host, bytes) else host
    here = isinstance(name, str) and name.endswith(".localhost")
    return resolve("127.0.0.1" if here else host, *words, **options)


socket.getaddrinfo = resolve_here
parts = urlsplit(sys.argv[1])
endpoint = f"{parts.scheme}://{sys.argv[2]}:{parts.port}"
config = Config(s3={"addressing_style": "virtual"}, signature_version="s3v4")
s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
bucket = "virtual-case"
s3.create_bucket(Bucket=bucket)
requested = []
s3.meta.events.register("before-send.s3", lambda request, **_: requested.append(request.url))
for key in ("plain", "with space/ü+", "virtual-case/again", "a//b", "folder/", "%2F"):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"m": "1"})
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == key.encode()
    assert got["Metadata"] == {"m": "1"}
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    assert f"//{bucket}.{sys.argv[2]}" in url, url
    assert urllib.request.urlopen(url).read() == key.encode()
assert all(f"//{bucket}.{sys.argv[2]}" in url for url in requested), requested
big = os.urandom(20_000_000)
s3.upload_fileobj(io.BytesIO(big), bucket, "big")
assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == big
listed = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
assert listed == sorted(listed)
assert len(listed) == 7
refusal = ""
try:
    s3.delete_bucket(Bucket=bucket)
except ClientError as error:
    refusal = error.response["Error"]["Code"]
assert refusal == "BucketNotEmpty", refusal
s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in listed]})
s3.delete_bucket(Bucket=bucket)
print("boto3", boto3.__version__)
