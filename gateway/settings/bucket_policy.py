"""The aspect ``policy``: the bucket's policy, and whether it is public. Pure."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from ...core.access.conditions import Condition
from ...core.access.errors import PolicyError
from ...core.access.policy import (
    BUCKET_POLICY_BYTES_MAX,
    Effect,
    Policy,
    Statement,
    parse_bucket_policy,
)
from ..errors import S3Error
from .stored import Stored

# Conditions on these, with fixed values, leave a statement that is not public. List:
# docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
_NARROWING = frozenset(
    {
        "aws:sourcearn", "aws:sourceaccount", "aws:sourceip", "aws:sourcevpc", "aws:sourcevpce",
        "aws:principalorgid", "aws:principalorgpaths", "aws:principalarn", "aws:principalaccount",
        "aws:userid", "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:dataaccesspointarn", "s3:dataaccesspointaccount",
    }
)  # fmt: skip


class BucketPolicy(msgspec.Struct, frozen=True):
    """A policy, checked."""

    text: str
    is_public: bool
    binds_owner: bool = False
    """What it denies of looking after it, it denies the owner's account too."""

    def compiled(self, bucket: str) -> Policy:
        """The policy, ready to be asked."""
        return parse_bucket_policy(self.text, bucket)


STORED: Stored[BucketPolicy] = Stored("policy", BucketPolicy)


def parse_policy(body: bytes, bucket: str) -> BucketPolicy:
    """The policy that a request brings. Raises S3Error MalformedPolicy, PolicyTooLarge."""
    if len(body) > BUCKET_POLICY_BYTES_MAX:
        raise S3Error("PolicyTooLarge")
    try:
        text = body.decode()
        policy = parse_bucket_policy(text, bucket)
    except UnicodeDecodeError as error:
        raise S3Error("MalformedPolicy", "This policy contains invalid Json") from error
    except PolicyError as error:
        raise S3Error("MalformedPolicy", str(error)) from error
    return BucketPolicy(text, any(map(is_public, policy.statements)))


def is_public(statement: Statement) -> bool:
    """Whether a statement allows something to everybody, as AWS defines it."""
    if statement.effect is not Effect.ALLOW:
        return False
    principals = statement.principals
    everyone = principals is not None and (principals.everyone or statement.principals_negated)
    return everyone and not any(map(_narrows, statement.conditions))


def _is_narrow_network(text: str) -> bool:
    """Whether an address range is small enough to mean somebody."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    return network.prefixlen >= _NARROW_BITS[network.version]


_NARROW_BITS = {4: 8, 6: 32}


def _narrows(condition: Condition) -> bool:
    if condition.key not in _NARROWING or condition.negated or condition.if_exists:
        return False
    if condition.quantifier == "forallvalues" or condition.operator == "null":
        return False  # they hold for requests that say nothing of it
    if condition.key == "aws:sourceip":
        return all(map(_is_narrow_network, condition.values))
    return not any("*" in value or "?" in value or "${" in value for value in condition.values)
