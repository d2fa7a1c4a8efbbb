"""What attacks have in common: fresh buckets, refusals, doors left open on purpose."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

numbers = itertools.count(1)


def new_bucket(client: Any, **more: Any) -> str:
    name = f"attacked-{next(numbers)}"
    client.create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-test-1"}, **more
    )
    return name


def code_of(call: Any, **arguments: Any) -> str:
    """The code of the error that *call* must end with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def open_to_all(s3: Any, bucket: str, action: str = "s3:*") -> None:
    """Let everybody do *action* in *bucket*."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": action,
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statement}))
