"""Rights of requests: by policies of identities and buckets, by ACLs, by file permissions, and what
public access blocks leave of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...core.access.decide import Policies, Request, decide
from ...core.access.modes import POLICY, POSIX
from ...core.access.policy import Asker, Effect, Named, Policy, identity_policy
from ...core.errors import CallerError
from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, Principal
from ...core.meta.records import Acl, Bucket
from ..bucket_guard import owner_of
from ..bucket_info import BucketInfo
from ..copy_source import parse_copy_source
from ..errors import S3Error
from ..exchange import Exchange
from ..settings import access_mode, acl, bucket_policy, ownership, public_access_block
from . import file_rights
from .acls import BUCKET_PERMISSIONS, OBJECT_PERMISSIONS, named_by
from .actions import ALSO_NEEDED, BY_HANDLER, action_of, resource_of
from .context import RequestContext
from .file_rights import FileRights

_MAKES_OBJECT = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload"})
_READS_OBJECT = frozenset({"GetObject", "HeadObject"})
_LISTS = frozenset({"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"})
_APPEND_HEADER = "x-amz-write-offset-bytes"
_TAGS = "s3:existingobjecttag/"
_RESOURCE_ACCOUNTS = ("s3:resourceaccount", "aws:resourceaccount")
_OWN_POLICY = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""What the owner's own account may do whatever the policy says: else one could lock oneself out."""


class Question(NamedTuple):
    """May this be done?"""

    action: str
    bucket: str = ""
    key: bytes = b""
    version_id: str = ""
    making: bool = False
    """It goes with making an object, which somebody may to whom an ACL gives WRITE."""
    prefix: str | None = None
    """Of the listing that it is about, if not the request's own."""


class PolicyAuthorizer:
    """The ``Authorizer``."""

    async def authorize(self, exchange: Exchange) -> None:
        """Raises S3Error AccessDenied, and NoSuchKey to who may list the bucket and reads what is
        not there."""
        operation = exchange.route.operation
        if operation in BY_HANDLER:
            return
        version_id = exchange.query.get("versionId", "")
        info, bucket, key = exchange.bucket_info, exchange.bucket, exchange.key
        for name in (operation, *ALSO_NEEDED.get(operation, ())):
            action = action_of(name, has_version=bool(version_id))
            question = Question(action, bucket, key, version_id)
            try:
                await self._check(exchange, question, info)
            except S3Error:
                if operation in _READS_OBJECT and await self._is_known_missing(exchange):
                    raise S3Error(
                        "NoSuchKey", fields={"Key": key.decode("utf-8", "replace")}
                    ) from None
                raise
        headers = exchange.headers
        if operation in _MAKES_OBJECT:
            await self._check_what_goes_along(exchange)
        if "x-amz-copy-source" in headers and operation in ("CopyObject", "UploadPartCopy"):
            source = parse_copy_source(headers["x-amz-copy-source"])
            await self.require(exchange, "s3:GetObject", *source)

    async def _check_what_goes_along(self, exchange: Exchange) -> None:
        """Tags and ACLs that come with a new object need rights of their own; so does content that
        an append changes in place."""
        info, bucket, key = exchange.bucket_info, exchange.bucket, exchange.key
        headers = exchange.headers
        assert info is not None
        if "x-amz-tagging" in headers:
            question = Question("s3:PutObjectTagging", bucket, key, making=True)
            await self._check(exchange, question, info)
        asked = None
        if self._has_acls(exchange, info):
            asked = acl.asked_by_headers(headers)
        if asked is not None and not acl.gives_only_to(asked, owner_of(info.record)):
            question = Question("s3:PutObjectAcl", bucket, key, making=True)
            await self._check(exchange, question, info)
        if _APPEND_HEADER in headers and self._mode(exchange, info) != POLICY:
            files = FileRights(exchange.services.meta, exchange.identity)
            if not await files.may_write(bucket, key):
                raise S3Error("AccessDenied")

    async def require(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, version_id: str = ""
    ) -> None:
        """Raises S3Error AccessDenied, and BucketNotFoundError."""
        info = exchange.bucket_info
        if info is None or bucket != exchange.bucket:
            info = await exchange.services.buckets.get(bucket)
        if version_id and action.startswith("s3:"):
            action = action_of(action[3:], has_version=True)
        await self._check(exchange, Question(action, bucket, key, version_id), info)

    async def require_listing(self, exchange: Exchange, key: bytes) -> None:
        """Whether the sender may know that there is no *key*: as if it listed what begins so.
        Raises S3Error AccessDenied."""
        prefix = key.decode("utf-8", "replace")
        question = Question("s3:ListBucket", exchange.bucket, prefix=prefix)
        await self._check(exchange, question, exchange.settings)

    async def hidden_folders(
        self, exchange: Exchange, folders: frozenset[bytes]
    ) -> frozenset[bytes]:
        """Those of *folders* whose names file permissions do not let the sender read."""
        info = exchange.settings
        identity = exchange.identity
        if identity.uid == 0 or self._mode(exchange, info) == POLICY:
            return frozenset()
        files = FileRights(exchange.services.meta, identity)
        return folders - await files.readable(exchange.bucket, folders)

    async def _is_known_missing(self, exchange: Exchange) -> bool:
        """Whether the object is not there, and the sender may know."""
        try:
            await self.require_listing(exchange, exchange.key)
            await exchange.services.meta.get_object(
                exchange.bucket,
                exchange.key,
                version_id=exchange.query.get("versionId", ""),
                with_data=False,
            )
        except S3Error:
            return False
        except CallerError:
            return True
        return False

    async def _check(self, exchange: Exchange, question: Question, info: BucketInfo | None) -> None:
        """Raises S3Error AccessDenied."""
        mode = POLICY if info is None else self._mode(exchange, info)
        by_files = mode != POLICY and question.action in file_rights.ACTIONS
        identity = exchange.identity
        if mode == POSIX and by_files and _counts_as_itself(identity, info):
            if await self._effect(exchange, question, info) is Effect.DENY:
                raise S3Error("AccessDenied")
        elif not await self._by_policies(exchange, question, info):
            raise S3Error("AccessDenied")
        if not by_files or identity.uid == 0:
            return
        key = question.key
        if question.action in _LISTS:
            key = exchange.query.get("prefix", "").encode("utf-8", "surrogateescape")
            if question.prefix is not None:
                key = question.prefix.encode("utf-8", "surrogateescape")
        files = FileRights(exchange.services.meta, identity)
        if not await files.may(question.action, question.bucket, key, question.version_id):
            raise S3Error("AccessDenied")

    async def _by_policies(
        self, exchange: Exchange, question: Question, info: BucketInfo | None
    ) -> bool:
        identity = exchange.identity
        is_account = identity.principal is Principal.ACCOUNT
        is_owner = info is None or owns(identity, info.record)
        if is_account and is_owner and not _is_asked(identity, info):
            # The usual case: the account's own keys, and a bucket that has no policy.
            if info is None or not self._has_acls(exchange, info):
                return True
        effect = await self._effect(exchange, question, info)
        if effect is Effect.DENY:
            return is_account and _may_undo(identity, question, info)
        return effect is Effect.ALLOW

    async def _effect(
        self, exchange: Exchange, question: Question, info: BucketInfo | None
    ) -> Effect:
        """What policies and ACLs say."""
        identity = exchange.identity
        own = own_policies(identity)
        policy = None if info is None else _bucket_policy(info, question.bucket)
        is_owner = info is None or owns(identity, info.record)
        granted = Named.NOT
        tags: Mapping[str, str] | None = None
        if info is not None:
            if policy is not None and not is_owner and _is_restricted(info):
                policy = policy.denials()
            if self._has_acls(exchange, info):
                object_acl = await _acl_of(exchange, question)
                granted = _granted(exchange, question, info, object_acl)
                if object_acl is not None and object_acl.owner and _is_about_it(question):
                    # The object is another's than the bucket: the bucket's owner cannot give it.
                    is_owner = identity.canonical_id == object_acl.owner
                    policy = None if policy is None else policy.denials()
            if question.key and _ask_for(_TAGS, question.action, policy, own):
                tags = await _existing_tags(exchange, question)
        account_id = ""
        if any(_ask_for(name, question.action, policy, own) for name in _RESOURCE_ACCOUNTS):
            account_id = await _resource_account(exchange, info)
        context = RequestContext(
            exchange,
            version_id=question.version_id,
            existing_tags=tags,
            prefix=question.prefix,
            resource_account=account_id,
        )
        request = Request(
            asker_of(identity),
            question.action,
            resource_of(question.bucket, question.key),
            context,
            identity.account_id if is_owner else _ANOTHER,
        )
        return decide(request, own._replace(resource=policy, granted=granted))

    def _mode(self, exchange: Exchange, info: BucketInfo) -> str:
        return access_mode.mode_of(info, exchange.services.access_mode)

    def _has_acls(self, exchange: Exchange, info: BucketInfo) -> bool:
        default = exchange.services.object_ownership
        return ownership.mode_of(info, default) != ownership.ENFORCED


_ANOTHER = "another account"
"""In the place of an account's id: one that is not the asker's."""


def asker_of(identity: Identity) -> Asker:
    """The identity as principals of policies name it."""
    arns = (identity.arn,) if not identity.role_arn else (identity.arn, identity.role_arn)
    session = identity.session
    return Asker(
        identity.account_id,
        arns,
        identity.principal is Principal.ACCOUNT,
        identity.canonical_id,
        "" if session is None else session.provider,
    )


def own_policies(identity: Identity) -> Policies:
    """What an identity brings along."""
    grants = identity.grants
    return Policies(
        tuple(map(identity_policy, grants.policies)),
        None if grants.boundary is None else identity_policy(grants.boundary),
        None if grants.session is None else tuple(map(identity_policy, grants.session)),
    )


def owns(identity: Identity, record: Bucket) -> bool:
    """Whether the identity's account may act as the bucket's owner: the store's own may for all."""
    if identity.account_id == FIRST_ACCOUNT_ID:
        return True
    return bool(identity.account_id) and identity.canonical_id == owner_of(record)


def _may_undo(identity: Identity, question: Question, info: BucketInfo | None) -> bool:
    """Whether an account may look after a bucket's policy that denies it: the owner, if it did not
    give that up, and the store's own in any case."""
    if info is None or question.action not in _OWN_POLICY or not owns(identity, info.record):
        return False
    stored = bucket_policy.STORED.of(info)
    return identity.account_id == FIRST_ACCOUNT_ID or stored is None or not stored.binds_owner


def _is_asked(identity: Identity, info: BucketInfo | None) -> bool:
    """Whether any policy has a say about the account itself."""
    grants = identity.grants
    if grants.session is not None or grants.boundary is not None:
        return True
    return info is not None and bucket_policy.STORED.aspect in info.settings


def _counts_as_itself(identity: Identity, info: BucketInfo | None) -> bool:
    """Whether file permissions alone may decide about *identity*. Nobody in particular has no
    business in a mount; and what is root in another account is not root here."""
    if not identity.account_id:
        return False
    return identity.uid != 0 or (info is not None and owns(identity, info.record))


def _bucket_policy(info: BucketInfo, bucket: str) -> Policy | None:
    stored = bucket_policy.STORED.of(info)
    if stored is None:
        return None
    return info.derived("policy", lambda: stored.compiled(bucket))


def _is_restricted(info: BucketInfo) -> bool:
    """Whether the bucket's policy gives nothing to other accounts: it is public, and those are
    restricted."""
    block = public_access_block.STORED.of(info)
    stored = bucket_policy.STORED.of(info)
    return (
        block is not None
        and block.restrict_public_buckets
        and stored is not None
        and stored.is_public
    )


def _is_about_it(question: Question) -> bool:
    """Whether the question is about the object that is there, not about the key."""
    return question.action.startswith(_ABOUT_OBJECTS) and not question.making


_ABOUT_OBJECTS = (
    "s3:GetObject",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
)


async def _acl_of(exchange: Exchange, question: Question) -> Acl | None:
    """The ACL of the object that the question is about; None: the bucket's owner has all of it."""
    if not question.key or not _is_about_it(question):
        return None
    try:
        view = await exchange.services.meta.get_object(
            question.bucket, question.key, version_id=question.version_id, with_data=False
        )
    except CallerError:
        return None
    return None if view.inode.object is None else view.inode.object.acl


def _granted(
    exchange: Exchange, question: Question, info: BucketInfo, object_acl: Acl | None
) -> Named:
    """What ACLs give."""
    action = "s3:PutObject" if question.making else question.action
    block = public_access_block.STORED.of(info)
    ignore_public = block is not None and block.ignore_public_acls
    permission = BUCKET_PERMISSIONS.get(action)
    found = acl.STORED.of(info)
    if permission is None:
        permission = OBJECT_PERMISSIONS.get(action)
        found = object_acl
    if permission is None or found is None:
        return Named.NOT
    return named_by(found.grants, exchange.identity, permission, ignore_public=ignore_public)


def _ask_for(name: str, action: str, policy: Policy | None, own: Policies) -> bool:
    """Whether any policy looks at condition keys that begin with *name*."""
    asked = [*own.identity, *(own.session or ())]
    if policy is not None:
        asked.append(policy)
    if own.boundary is not None:
        asked.append(own.boundary)
    return any(one.asks_for(action, name) for one in asked)


async def _resource_account(exchange: Exchange, info: BucketInfo | None) -> str:
    """The account that the bucket belongs to, or will; empty if there is none."""
    identity = exchange.identity
    owner = identity.canonical_id if info is None else owner_of(info.record)
    if owner == identity.canonical_id:
        return identity.account_id
    account = await exchange.services.accounts.account_by_canonical_id(owner)
    return "" if account is None else account.account_id


async def _existing_tags(exchange: Exchange, question: Question) -> Mapping[str, str] | None:
    try:
        view = await exchange.services.meta.get_object(
            question.bucket, question.key, version_id=question.version_id, with_data=False
        )
    except CallerError:
        return None
    return None if view.inode.object is None else view.inode.object.tags
