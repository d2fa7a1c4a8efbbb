"""boto3's transfer manager on the CRT: parts up and ranges down over many connections, with
If-Match. (boto3's own switch for it only knows AWS's endpoints, so its parts are put together
here.)"""

import os
import sys
import tempfile

import awscrt
import boto3
import botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)

bucket, region = "boto3crt", "us-east-1"
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
s3.create_bucket(Bucket=bucket)
session = botocore.session.get_session()
credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
client = create_s3_crt_client(
    region=region,
    crt_credentials_provider=credentials,
    use_ssl=sys.argv[1].startswith("https:"),
    verify=os.environ.get("AWS_CA_BUNDLE"),
    part_size=8 << 20,
)
options = {"region_name": region, "endpoint_url": sys.argv[1]}
serializer = BotocoreCRTRequestSerializer(session, options)
# A manager for each transfer: only its end waits for the last rename of a download.
with tempfile.TemporaryDirectory() as folder:
    for size in (0, 1, 5 << 20, 60_000_001):
        source, target = f"{folder}/source-{size}", f"{folder}/target-{size}"
        with open(source, "wb") as file:
            file.write(os.urandom(size))
        key = f"crt/{size} ü+"
        with CRTTransferManager(client, serializer) as manager:
            manager.upload(source, bucket, key, extra_args={"ContentType": "text/x"}).result()
        with CRTTransferManager(client, serializer) as manager:
            manager.download(bucket, key, target).result()
        with open(source, "rb") as left, open(target, "rb") as right:
            assert left.read() == right.read(), size
        assert s3.head_object(Bucket=bucket, Key=key)["ContentType"] == "text/x"
        s3.delete_object(Bucket=bucket, Key=key)
s3.delete_bucket(Bucket=bucket)
print("boto3", boto3.__version__, "awscrt", awscrt.__version__)
