"""Rights by policies: of identities (IAM), of buckets, and what public access blocks leave of
them."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.access.decide import Policies, Request, decide
from ...core.access.policy import Asker, Effect, Policy, parse_identity_policy
from ...core.errors import CallerError
from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, Principal
from ...core.meta.records import Bucket
from ..bucket_guard import owner_of
from ..bucket_info import BucketInfo
from ..copy_source import parse_copy_source
from ..errors import S3Error
from ..exchange import Exchange
from ..settings import acl, bucket_policy, public_access_block
from .actions import BY_HANDLER, action_of, resource_of
from .context import RequestContext

_TAKES_ACL = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload", "CreateBucket"})
_OWN_POLICY = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""What the owner's own account may do whatever the policy says: else one could lock oneself out."""


class PolicyAuthorizer:
    """The ``Authorizer`` by policies."""

    async def authorize(self, exchange: Exchange) -> None:
        """Raises S3Error AccessDenied; for what is denied and missing too, as AWS does not tell."""
        operation = exchange.route.operation
        if operation in BY_HANDLER:
            return
        has_version = bool(exchange.query.get("versionId"))
        action = action_of(operation, has_version=has_version)
        await self._check(exchange, action, exchange.bucket, exchange.key, exchange.bucket_info)
        headers = exchange.headers
        if operation in _TAKES_ACL:
            acl.check_headers(headers)
        if operation in ("PutObject", "CopyObject", "CreateMultipartUpload"):
            if "x-amz-tagging" in headers:
                await self._check(
                    exchange,
                    "s3:PutObjectTagging",
                    exchange.bucket,
                    exchange.key,
                    exchange.bucket_info,
                )
        source = headers.get("x-amz-copy-source")
        if source is not None and operation in ("CopyObject", "UploadPartCopy"):
            bucket, key, version_id = parse_copy_source(source)
            await self.require(exchange, "s3:GetObject", bucket, key, version_id)

    async def require(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, version_id: str = ""
    ) -> None:
        """Raises S3Error AccessDenied, and BucketNotFoundError."""
        info = exchange.bucket_info
        if info is None or bucket != exchange.bucket:
            info = await exchange.services.buckets.get(bucket)
        if version_id and action.startswith("s3:"):
            action = action_of(action[3:], has_version=True)
        await self._check(exchange, action, bucket, key, info)

    async def _check(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, info: BucketInfo | None
    ) -> None:
        identity = exchange.identity
        policy = None if info is None else bucket_policy.STORED.of(info)
        if policy is None and identity.principal is Principal.ACCOUNT:
            # The usual case: the account's own keys, and a bucket without a policy.
            if info is None or owns(identity, info.record):
                return
            raise S3Error("AccessDenied")
        parsed = None if policy is None or info is None else _bucket_policy(info, policy, bucket)
        tags: Mapping[str, str] | None = None
        if policy is not None and "existingobjecttag" in policy.text.lower() and key:
            tags = await _existing_tags(exchange, bucket, key)
        context = RequestContext(exchange, tags)
        is_owner = info is None or owns(identity, info.record)
        request = Request(
            asker_of(identity),
            action,
            resource_of(bucket, key),
            context,
            identity.account_id if is_owner else owner_of_info(info),
        )
        effect = decide(request, _policies(identity, parsed))
        if effect is Effect.ALLOW:
            return
        if effect is Effect.DENY and action in _OWN_POLICY and is_owner:
            if identity.principal is Principal.ACCOUNT:
                return
        raise S3Error("AccessDenied")


def asker_of(identity: Identity) -> Asker:
    """The identity as principals of policies name it."""
    arns = [identity.arn] if not identity.role_arn else [identity.arn, identity.role_arn]
    session = identity.session
    return Asker(
        identity.account_id,
        arns,
        identity.principal is Principal.ACCOUNT,
        identity.canonical_id,
        "" if session is None else session.provider,
    )


def _policies(identity: Identity, resource: Policy | None) -> Policies:
    grants = identity.grants
    return Policies(
        tuple(parse_identity_policy(text) for text in grants.policies),
        None if grants.boundary is None else parse_identity_policy(grants.boundary),
        None
        if grants.session is None
        else tuple(parse_identity_policy(text) for text in grants.session),
        resource,
    )


def own_policies(identity: Identity) -> Policies:
    """What an identity's own policies say, for requests that no bucket is asked about."""
    return _policies(identity, None)


def _bucket_policy(
    info: BucketInfo, stored: bucket_policy.BucketPolicy, bucket: str
) -> Policy | None:
    """The policy in force: a public one gives nothing where the bucket restricts those."""
    policy = info.derived("policy", lambda: stored.compiled(bucket))
    block = public_access_block.STORED.of(info)
    if block is not None and block.restrict_public_buckets and stored.is_public:
        return policy.without_public()
    return policy


def owns(identity: Identity, record: Bucket) -> bool:
    """Whether the identity's account may act as the bucket's owner: the store's own may for all."""
    if identity.account_id == FIRST_ACCOUNT_ID:
        return True
    return identity.canonical_id == owner_of(record)


def owner_of_info(info: BucketInfo | None) -> str:
    """Something that is no account's id: the bucket's owner is another account."""
    return "" if info is None else f"owner {owner_of(info.record)}"


async def _existing_tags(exchange: Exchange, bucket: str, key: bytes) -> Mapping[str, str] | None:
    try:
        view = await exchange.services.meta.get_object(bucket, key, with_data=False)
    except CallerError:
        return None
    return None if view.inode.object is None else view.inode.object.tags
