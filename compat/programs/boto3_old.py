"""boto3 before 1.36: Content-MD5 where it is asked for, no checksums by itself."""

import hashlib
import io
import os
import sys

import boto3
from botocore.config import Config

bucket = "boto3old"
s3 = boto3.client("s3", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 1}))
s3.create_bucket(Bucket=bucket)
body = os.urandom(20_000_000)
s3.upload_fileobj(io.BytesIO(body), bucket, "big name +%20.bin", ExtraArgs={"Metadata": {"a": "b"}})
got = s3.get_object(Bucket=bucket, Key="big name +%20.bin")
assert got["Body"].read() == body
assert got["Metadata"] == {"a": "b"}
assert got["ETag"].endswith('-3"'), got["ETag"]
small = s3.put_object(Bucket=bucket, Key="gz", Body=b"\x1f\x8bnot gzip", ContentEncoding="gzip")
assert small["ETag"].strip('"') == hashlib.md5(b"\x1f\x8bnot gzip").hexdigest()
got = s3.get_object(Bucket=bucket, Key="gz")
assert got["Body"].read() == b"\x1f\x8bnot gzip"
assert got["ContentEncoding"] == "gzip"
rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 3}}
s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]["ID"] == "r"
keys = [{"Key": one["Key"]} for one in s3.list_objects(Bucket=bucket)["Contents"]]
assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})["Deleted"]) == 2
s3.delete_bucket(Bucket=bucket)
print("boto3", boto3.__version__)
