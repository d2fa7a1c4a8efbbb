"""What ACLs give to whom, and the ACLs of what is made."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.access.policy import Named
from ...core.identity.names import EMAIL_CHARACTERS_MAX
from ...core.identity.records import Identity, Principal
from ...core.meta.records import Acl, Grant
from ..bucket_guard import owner_of
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange
from ..listings import Person
from ..settings import acl, ownership, public_access_block
from ..settings.acl import AskedAcl

CANONICAL_DIGITS = 64

BUCKET_PERMISSIONS = {
    "s3:ListBucket": acl.READ,
    "s3:ListBucketVersions": acl.READ,
    "s3:ListBucketMultipartUploads": acl.READ,
    "s3:PutObject": acl.WRITE,
    "s3:DeleteObject": acl.WRITE,
    "s3:DeleteObjectVersion": acl.WRITE,
    "s3:AbortMultipartUpload": acl.WRITE,
    "s3:ListMultipartUploadParts": acl.WRITE,
    "s3:GetBucketAcl": acl.READ_ACP,
    "s3:PutBucketAcl": acl.WRITE_ACP,
}
"""Which permission in the bucket's ACL gives an action."""

OBJECT_PERMISSIONS = {
    "s3:GetObject": acl.READ,
    "s3:GetObjectVersion": acl.READ,
    "s3:GetObjectAttributes": acl.READ,
    "s3:GetObjectVersionAttributes": acl.READ,
    "s3:GetObjectAcl": acl.READ_ACP,
    "s3:GetObjectVersionAcl": acl.READ_ACP,
    "s3:PutObjectAcl": acl.WRITE_ACP,
    "s3:PutObjectVersionAcl": acl.WRITE_ACP,
}
"""The same of the object's own."""


def named_by(
    grants: Sequence[Grant], identity: Identity, permission: str, *, ignore_public: bool
) -> Named:
    """How closely those of *grants* that give *permission* name *identity*."""
    named = Named.NOT
    for grant in grants:
        if grant.permission not in (permission, acl.FULL_CONTROL):
            continue
        if grant.grantee in acl.PUBLIC_GROUPS:
            if ignore_public or (grant.grantee != acl.ALL_USERS and not identity.account_id):
                continue
            named = Named.ITSELF
        elif identity.account_id and grant.grantee == identity.canonical_id:
            is_account = identity.principal is Principal.ACCOUNT
            named = max(named, Named.ITSELF if is_account else Named.ACCOUNT)
    return named


async def person_of(exchange: Exchange, canonical_id: str) -> Person:
    """An account, as documents name it."""
    if canonical_id == exchange.identity.canonical_id:
        return exchange.person
    account = await exchange.services.accounts.account_by_canonical_id(canonical_id)
    return Person(canonical_id, "" if account is None else account.name)


async def bucket_owner(exchange: Exchange) -> Person:
    """The bucket's owner, as documents name it."""
    return await person_of(exchange, owner_of(exchange.settings.record))


async def owner_of_new(exchange: Exchange) -> Person:
    """Whom an object would belong to that the request makes without a word about ACLs."""
    mode = ownership.mode_of(exchange.settings, exchange.services.object_ownership)
    if mode == ownership.ENFORCED or not exchange.identity.account_id:
        return await bucket_owner(exchange)
    return exchange.person


async def acl_of_new_object(exchange: Exchange) -> Acl | None:
    """The ACL of the object that a request makes: None where it is the bucket owner's, who alone
    has anything of it.

    Raises S3Error: AccessControlListNotSupported, AccessDenied (public ACLs are blocked),
    InvalidArgument, InvalidRequest, UnresolvableGrantByEmailAddress.
    """
    info = exchange.settings
    mode = ownership.mode_of(info, exchange.services.object_ownership)
    asked = acl.asked_by_headers(exchange.headers)
    if mode == ownership.ENFORCED:
        # AWS refuses "private" too; but it says what holds anyway, and clients with no word of ACLs
        # in their settings send it with each object (rclone before 1.61).
        if asked is None or asked.canned != acl.PRIVATE:
            check_without_acls(asked)
        return None
    owner_id = owner_of(info.record)
    # What nobody in particular puts is the bucket owner's: somebody must be able to remove it.
    writer_id = exchange.identity.canonical_id or owner_id
    given_over = (
        mode == ownership.PREFERRED
        and asked is not None
        and asked.canned == acl.BUCKET_OWNER_FULL_CONTROL
    )
    if given_over or (writer_id == owner_id and (asked is None or asked.canned == acl.PRIVATE)):
        return None
    holder = await bucket_owner(exchange)
    owner = holder if writer_id == owner_id else exchange.person
    grants = await grants_of(exchange, asked or AskedAcl(acl.PRIVATE), owner, holder)
    if writer_id == owner_id:
        return Acl("", "", grants)
    return Acl(owner.id, owner.display_name, grants)


def check_without_acls(asked: AskedAcl | None) -> None:
    """Raise S3Error AccessControlListNotSupported for an ACL where there are none, unless it gives
    what holds anyway."""
    if asked is not None and asked.canned != acl.BUCKET_OWNER_FULL_CONTROL:
        raise S3Error("AccessControlListNotSupported")


async def grants_of(
    exchange: Exchange,
    asked: AskedAcl,
    owner: Person,
    holder: Person,
    *,
    of_bucket: bool = False,
    is_new_bucket: bool = False,
) -> tuple[Grant, ...]:
    """The grants of an ACL that a request asks for; *holder* owns the bucket.

    Raises S3Error: AccessDenied (public ACLs are blocked, or another is said to be the owner),
    InvalidArgument, UnresolvableGrantByEmailAddress.
    """
    if asked.owner and asked.owner != owner.id:
        raise S3Error("AccessDenied")
    if asked.canned:
        grants = acl.canned_grants(asked.canned, owner, holder, of_bucket=of_bucket)
    else:
        grants = tuple([await _resolved(exchange, one) for one in asked.grants])
    if not is_new_bucket and acl.is_public(grants):
        block = public_access_block.STORED.of(exchange.settings)
        if block is not None and block.block_public_acls:
            raise S3Error("AccessDenied")
    return grants


async def _resolved(exchange: Exchange, asked: acl.Asked) -> Grant:
    """The grant, if there is such an account."""
    if asked.group:
        return Grant(asked.group, asked.permission)
    accounts = exchange.services.accounts
    account = None
    if asked.email:
        if len(asked.email) <= EMAIL_CHARACTERS_MAX:
            account = await accounts.account_by_email(asked.email)
        if account is None:
            raise S3Error("UnresolvableGrantByEmailAddress")
    else:
        if len(asked.id) == CANONICAL_DIGITS:
            account = await accounts.account_by_canonical_id(asked.id)
        if account is None:
            raise invalid_argument("Invalid id", name="CanonicalUser/ID", value=asked.id)
    return Grant(account.canonical_id, asked.permission, account.name)
