"""The managed policies that every store has, under the names that AWS gave them."""

from __future__ import annotations

import json

from .names import AWS_ACCOUNT
from .records import ManagedPolicy, PolicyVersion

CREATED_NS = 1_420_070_400 * 1_000_000_000  # 2015-01-01, so that answers do not change


def _policy(name: str, unique_id: str, *actions: str) -> ManagedPolicy:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    versions = (PolicyVersion("v1", document, CREATED_NS),)
    return ManagedPolicy(
        AWS_ACCOUNT, name, "/", unique_id, CREATED_NS, CREATED_NS, versions, "v1", 1
    )


_ALL = (
    _policy("AdministratorAccess", "ANPACRAQEN00000000001", "*"),
    _policy("AmazonS3FullAccess", "ANPACRAQEN00000000002", "s3:*", "s3-object-lambda:*"),
    _policy(
        "AmazonS3ReadOnlyAccess", "ANPACRAQEN00000000003", "s3:Get*", "s3:List*", "s3:Describe*"
    ),
    _policy("IAMFullAccess", "ANPACRAQEN00000000004", "iam:*"),
    _policy("IAMReadOnlyAccess", "ANPACRAQEN00000000005", "iam:Get*", "iam:List*"),
)

BUILTIN_POLICIES = {f"arn:aws:iam::aws:policy/{one.name}": one for one in _ALL}
"""By ARN."""
