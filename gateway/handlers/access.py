"""Who may do what: policies, ACLs and ownership controls of buckets, ACLs of objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ...core.meta.records import Acl, ObjectAttributes, ObjectView
from ..access.acls import bucket_owner, check_without_acls, grants_of
from ..bucket_guard import owner_of
from ..errors import S3Error
from ..exchange import Exchange
from ..listings import Person
from ..receive import Body, read_document
from ..reply import Reply, xml_reply
from ..settings import acl, bucket_policy, ownership, public_access_block
from ..settings.acl import AskedAcl
from ..settings.elements import document, flag

_CONFIRM = "x-amz-confirm-remove-self-bucket-access"
_POLICY_TYPE = {"Content-Type": "application/json"}


async def put_policy(exchange: Exchange) -> Reply:
    """PutBucketPolicy."""
    policy = bucket_policy.parse_policy(await read_document(exchange), exchange.bucket)
    block = public_access_block.STORED.of(exchange.settings)
    if block is not None and block.block_public_policy and policy.is_public:
        raise S3Error("AccessDenied")
    if exchange.headers.get(_CONFIRM, "").lower() == "true":
        policy = msgspec.structs.replace(policy, binds_owner=True)
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
    """GetBucketPolicyStatus: whether policy or ACL open the bucket to everybody."""
    policy = bucket_policy.STORED.of(exchange.settings)
    present = acl.STORED.of(exchange.settings) if _has_acls(exchange) else None
    is_public = (policy is not None and policy.is_public) or (
        present is not None and acl.is_public(present.grants)
    )
    return xml_reply(document("PolicyStatus", flag("IsPublic", is_public)))


def _policy(exchange: Exchange) -> bucket_policy.BucketPolicy:
    policy = bucket_policy.STORED.of(exchange.settings)
    if policy is None:
        raise S3Error("NoSuchBucketPolicy", fields={"BucketName": exchange.bucket})
    return policy


async def get_bucket_acl(exchange: Exchange) -> Reply:
    """GetBucketAcl."""
    owner = await bucket_owner(exchange)
    stored = acl.STORED.of(exchange.settings)
    if stored is None or not _has_acls(exchange):
        return xml_reply(acl.render(owner, acl.of_owner(owner)))
    return xml_reply(acl.render(owner, stored.grants))


async def put_bucket_acl(exchange: Exchange) -> Reply:
    """PutBucketAcl."""
    asked = await _asked(exchange)
    if not _has_acls(exchange):
        _check_owners_alone(exchange, asked)
        return Reply(200)
    owner = await bucket_owner(exchange)
    grants = await grants_of(exchange, asked, owner, owner, of_bucket=True)
    await exchange.services.meta.set_bucket_setting(
        exchange.bucket, acl.STORED.aspect, acl.STORED.encode(Acl("", "", grants))
    )
    return Reply(200)


async def get_object_acl(exchange: Exchange) -> Reply:
    """GetObjectAcl."""
    view = await _object(exchange)
    owner, present = await _owner_of(exchange, view)
    grants = acl.of_owner(owner) if present is None else present.grants
    reply = xml_reply(acl.render(owner, grants))
    reply.headers = {**reply.headers, **_version(view)}
    return reply


async def put_object_acl(exchange: Exchange) -> Reply:
    """PutObjectAcl."""
    view = await _object(exchange)
    asked = await _asked(exchange)
    if not _has_acls(exchange):
        _check_owners_alone(exchange, asked)
        return Reply(200, _version(view))
    owner, present = await _owner_of(exchange, view)
    grants = await grants_of(exchange, asked, owner, await bucket_owner(exchange))
    attributes = view.inode.object or ObjectAttributes()
    owner_id = "" if present is None else present.owner
    owner_name = "" if present is None else present.owner_name
    await exchange.services.meta.set_object_attributes(
        exchange.bucket,
        exchange.key,
        view.inode.inode_id,
        msgspec.structs.replace(attributes, acl=Acl(owner_id, owner_name, grants)),
        version_id=view.version_id,
    )
    return Reply(200, _version(view))


async def _object(exchange: Exchange) -> ObjectView:
    return await exchange.services.meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
    )


async def _owner_of(exchange: Exchange, view: ObjectView) -> tuple[Person, Acl | None]:
    """Whom an object belongs to, and its ACL if it has one that counts."""
    present = None if view.inode.object is None else view.inode.object.acl
    if present is None or not _has_acls(exchange):
        return await bucket_owner(exchange), None
    if not present.owner:
        return await bucket_owner(exchange), present
    return Person(present.owner, present.owner_name), present


async def _asked(exchange: Exchange) -> AskedAcl:
    """The ACL in headers or body. Raises S3Error."""
    in_headers = acl.asked_by_headers(exchange.headers)
    if Body(exchange).length:
        if in_headers is not None:
            raise S3Error("UnexpectedContent")
        return acl.asked_by_document(await read_document(exchange))
    if in_headers is None:
        raise S3Error("MissingSecurityHeader", fields={"MissingHeaderName": acl.CANNED_HEADER})
    return in_headers


def _has_acls(exchange: Exchange) -> bool:
    mode = ownership.mode_of(exchange.settings, exchange.services.object_ownership)
    return mode != ownership.ENFORCED


def _check_owners_alone(exchange: Exchange, asked: AskedAcl) -> None:
    """Raise S3Error AccessControlListNotSupported for an ACL that gives anything but what the
    bucket's owner has anyway."""
    owner = owner_of(exchange.settings.record)
    if [(one.id, one.permission) for one in asked.grants] != [(owner, acl.FULL_CONTROL)]:
        check_without_acls(asked)


def _version(view: ObjectView) -> dict[str, str]:
    return {"x-amz-version-id": view.version_id} if view.version_id else {}


async def put_ownership(exchange: Exchange) -> Reply:
    """PutBucketOwnershipControls. ACLs are not switched off while the bucket's gives something to
    others."""
    mode = ownership.parse(await read_document(exchange))
    owner = owner_of(exchange.settings.record)
    present = acl.STORED.of(exchange.settings)
    if (
        mode == ownership.ENFORCED
        and present is not None
        and _has_acls(exchange)
        and acl.gives_to_others(present.grants, owner)
    ):
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    await exchange.services.meta.set_bucket_setting(
        exchange.bucket, ownership.STORED.aspect, ownership.STORED.encode(mode)
    )
    return Reply(200)


async def get_ownership(exchange: Exchange) -> Reply:
    """GetBucketOwnershipControls: where nobody said anything, ACLs being off is what holds, as of
    every bucket that AWS makes; them being on is not told, as of the old ones there."""
    mode = ownership.mode_of(exchange.settings, exchange.services.object_ownership)
    if ownership.STORED.of(exchange.settings) is None and mode != ownership.ENFORCED:
        raise S3Error("OwnershipControlsNotFoundError", fields={"BucketName": exchange.bucket})
    return xml_reply(ownership.render(mode))


async def delete_ownership(exchange: Exchange) -> Reply:
    """DeleteBucketOwnershipControls."""
    await exchange.services.meta.set_bucket_setting(exchange.bucket, ownership.STORED.aspect, None)
    return Reply(204)


HANDLERS: dict[str, Callable[[Exchange], Awaitable[Reply]]] = {
    "PutBucketPolicy": put_policy,
    "GetBucketPolicy": get_policy,
    "DeleteBucketPolicy": delete_policy,
    "GetBucketPolicyStatus": get_policy_status,
    "GetBucketAcl": get_bucket_acl,
    "PutBucketAcl": put_bucket_acl,
    "GetObjectAcl": get_object_acl,
    "PutObjectAcl": put_object_acl,
    "GetBucketOwnershipControls": get_ownership,
    "PutBucketOwnershipControls": put_ownership,
    "DeleteBucketOwnershipControls": delete_ownership,
}
