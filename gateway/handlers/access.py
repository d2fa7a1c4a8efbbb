"""Who may do what with a bucket: policy, public access block, ownership, and ACLs as far as they
exist where the owner owns everything."""

from __future__ import annotations

from ..bucket_guard import owner_of
from ..errors import S3Error
from ..exchange import Exchange
from ..receive import Body, read_document
from ..reply import Reply, xml_reply
from ..settings import acl, bucket_policy, public_access_block
from ..settings.elements import document, flag

_POLICY_TYPE = {"Content-Type": "application/json"}


async def put_policy(exchange: Exchange) -> Reply:
    """PutBucketPolicy."""
    policy = bucket_policy.parse_policy(await read_document(exchange), exchange.bucket)
    block = public_access_block.STORED.of(exchange.settings)
    if block is not None and block.block_public_policy and policy.is_public:
        raise S3Error("AccessDenied")
    value = bucket_policy.STORED.encode(policy)
    await exchange.services.meta.set_bucket_setting(
        exchange.bucket, bucket_policy.STORED.aspect, value
    )
    return Reply(204)


async def get_policy(exchange: Exchange) -> Reply:
    """GetBucketPolicy: the text as it came."""
    policy = _policy(exchange)
    return Reply(200, _POLICY_TYPE, policy.text.encode())


async def delete_policy(exchange: Exchange) -> Reply:
    """DeleteBucketPolicy."""
    await exchange.services.meta.set_bucket_setting(
        exchange.bucket, bucket_policy.STORED.aspect, None
    )
    return Reply(204)


async def get_policy_status(exchange: Exchange) -> Reply:
    """GetBucketPolicyStatus."""
    return xml_reply(document("PolicyStatus", flag("IsPublic", _policy(exchange).is_public)))


def _policy(exchange: Exchange) -> bucket_policy.BucketPolicy:
    policy = bucket_policy.STORED.of(exchange.settings)
    if policy is None:
        raise S3Error("NoSuchBucketPolicy", fields={"BucketName": exchange.bucket})
    return policy


async def get_acl(exchange: Exchange) -> Reply:
    """GetBucketAcl and GetObjectAcl: the owner has full control, and nobody else has anything."""
    if exchange.key:
        await exchange.services.meta.get_object(
            exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
        )
    owner = owner_of(exchange.settings.record)
    shown = exchange.identity.display_name if owner == exchange.identity.canonical_id else ""
    return xml_reply(acl.owners_document(owner, shown))


async def put_acl(exchange: Exchange) -> Reply:
    """PutBucketAcl and PutObjectAcl: only what changes nothing."""
    if exchange.key:
        await exchange.services.meta.get_object(
            exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
        )
    body = Body(exchange)
    if body.length:
        text = await read_document(exchange)
        acl.check_document(text, owner_of(exchange.settings.record))
    else:
        acl.check_headers(exchange.headers, needed=True)
    return Reply(200)
