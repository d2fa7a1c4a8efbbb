"""Who an access key stands for: read from the KV, and kept until anything changes.

Every look-up reads one key, the stamp that every change moves; only if it moved is the rest read
anew, in the same snapshot. So a change by any process holds for the next request of all.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from ..errors import DataLossError, InvalidArgumentError, NotFoundError
from ..kv.store import ReadTransaction
from .context import Context, get_holder, get_record
from .credentials import Credentials
from .names import role_arn, root_arn, session_arn, user_arn
from .policies import need_policy
from .records import (
    AccessKey,
    Account,
    Grants,
    Group,
    Identity,
    Principal,
    Role,
    Session,
    SessionToken,
    User,
    canonical_id_of,
)
from .schema import STAMP_KEY, Kind, decode, encode, key

KEYS_CACHED_MAX = 4096
TOKEN_CHARACTERS_MAX = 16 * 1024  # of those that are looked at: ours have some hundreds to 8 KiB
_TOKEN_PREFIX = "CQST"
_TOKEN_CONTEXT = b"session token"


class Directory:
    """Finds credentials."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stamp: bytes | None = None
        self._known: OrderedDict[tuple[str, str], Credentials | None] = OrderedDict()

    async def find(self, access_key: str, session_token: str = "") -> Credentials | None:
        """The credentials of *access_key* as they are now; None if there are none, or they were
        switched off. With *session_token* the temporary ones that it holds.

        Raises InvalidArgumentError for a token that is not one of this store's for this key.
        """
        if len(session_token) > TOKEN_CHARACTERS_MAX or len(access_key) > 128:
            raise InvalidArgumentError("The session token is longer than any of this store.")
        name = (access_key, session_token)

        async def read(tx: ReadTransaction) -> Credentials | None:
            stamp = await tx.get(STAMP_KEY)
            if stamp != self._stamp:
                self._known.clear()
                self._stamp = stamp
            elif name in self._known:
                return self._known[name]
            if session_token:
                found = await self._of_token(tx, access_key, session_token)
            else:
                found = await self._of_key(tx, access_key)
            if stamp == self._stamp:
                self._remember(name, found)
            return found

        return await self._context.kv.read(read)

    def _remember(self, name: tuple[str, str], found: Credentials | None) -> None:
        self._known[name] = found
        if len(self._known) > KEYS_CACHED_MAX:
            self._known.popitem(last=False)

    async def _of_key(self, tx: ReadTransaction, access_key: str) -> Credentials | None:
        record = await get_record(tx, key("k", access_key), AccessKey)
        if record is None or not record.active:
            return None
        identity = await _identity(tx, record.account_id, record.user, "", None)
        if identity is None:
            return None
        secret = self._context.sealer.open(record.sealed_secret, access_key.encode()).decode()
        return Credentials(access_key, secret, identity)

    async def _of_token(
        self, tx: ReadTransaction, access_key: str, session_token: str
    ) -> Credentials | None:
        token = self.open_token(session_token)
        if token.access_key != access_key:
            raise InvalidArgumentError("The session token belongs to another access key.")
        identity = await _identity(tx, token.account_id, token.user, token.role, token)
        if identity is None:
            return None
        return Credentials(
            access_key,
            token.secret_key,
            identity,
            session_token,
            float(token.session.expires_seconds),
        )

    def seal_token(self, token: SessionToken) -> str:
        """*token* as clients send it with every request."""
        sealed = self._context.sealer.seal(encode(token), _TOKEN_CONTEXT)
        return _TOKEN_PREFIX + base64.b64encode(sealed).decode()

    def open_token(self, text: str) -> SessionToken:
        """The inverse of ``seal_token``. Raises InvalidArgumentError."""
        try:
            if not text.startswith(_TOKEN_PREFIX):
                raise ValueError
            sealed = base64.b64decode(text[len(_TOKEN_PREFIX) :], validate=True)
            return decode(self._context.sealer.open(sealed, _TOKEN_CONTEXT), SessionToken)
        except (ValueError, binascii.Error, DataLossError):
            raise InvalidArgumentError("The session token is not one of this store.") from None


async def _identity(
    tx: ReadTransaction, account_id: str, user: str, role: str, token: SessionToken | None
) -> Identity | None:
    """Who acts, with all policies; None if the user, role or account is gone."""
    account = await get_record(tx, key("a", account_id), Account)
    if account is None:
        return None
    session = None if token is None else token.session
    if role:
        assumed = cast(Role | None, await get_holder(tx, Kind.ROLE, account_id, role))
        if assumed is None or token is None or assumed.unique_id != token.unique_id:
            return None
        return await role_identity(tx, account, assumed, token.session)
    if user:
        found = cast(User | None, await get_holder(tx, Kind.USER, account_id, user))
        if found is None or (token is not None and found.unique_id != token.unique_id):
            return None
        return await user_identity(tx, account, found, session)
    return account_identity(account, session)


def account_identity(account: Account, session: Session | None = None) -> Identity:
    """The account itself."""
    return Identity(
        Principal.ACCOUNT,
        account.account_id,
        account.canonical_id,
        account.name,
        root_arn(account.account_id),
        account.account_id,
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        session=session,
    )


async def user_identity(
    tx: ReadTransaction, account: Account, user: User, session: Session | None
) -> Identity:
    """A user, with the policies of its groups."""
    texts = await _documents(tx, user)
    for name in user.member_of:
        group = await get_holder(tx, Kind.GROUP, user.account_id, name)
        if group is not None:
            texts += await _documents(tx, group)
    return Identity(
        Principal.USER,
        user.account_id,
        canonical_id_of(user.account_id),
        account.name,
        user_arn(user),
        user.unique_id,
        user_name=user.name,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        tags=user.tags,
        session=session,
        grants=await _grants(tx, user, texts, session),
    )


async def role_identity(
    tx: ReadTransaction, account: Account, role: Role, session: Session
) -> Identity:
    """A session of a role."""
    tags: Mapping[str, str] = role.tags
    if session.tags:
        own = {name.lower() for name in session.tags}  # tag keys do not differ by case alone
        kept = {name: text for name, text in role.tags.items() if name.lower() not in own}
        tags = kept | session.tags
    return Identity(
        Principal.ROLE,
        role.account_id,
        canonical_id_of(role.account_id),
        account.name,
        session_arn(role, session.name),
        f"{role.unique_id}:{session.name}",
        uid=role.uid,
        gid=role.gid,
        groups=role.groups,
        role_name=role.name,
        role_arn=role_arn(role),
        tags=tags,
        session=session,
        grants=await _grants(tx, role, await _documents(tx, role), session),
    )


async def _documents(tx: ReadTransaction, holder: User | Group | Role) -> list[str]:
    texts = list(holder.inline.values())
    texts += [await _managed(tx, arn, holder.account_id) for arn in holder.attached]
    return texts


async def _grants(
    tx: ReadTransaction, holder: User | Role, texts: list[str], session: Session | None
) -> Grants:
    boundary = None
    if holder.boundary:
        boundary = await _managed(tx, holder.boundary, holder.account_id)
    cut: tuple[str, ...] | None = None
    if session is not None and (session.policies or session.policy_arns):
        named = [await _managed(tx, arn, holder.account_id) for arn in session.policy_arns]
        cut = (*session.policies, *named)
    return Grants(tuple(texts), boundary, cut)


_NOTHING = '{"Version":"2012-10-17","Statement":[]}'


async def _managed(tx: ReadTransaction, arn: str, account_id: str) -> str:
    """The document in force; one that gives nothing if the policy is gone (a session policy may
    be removed while sessions last)."""
    try:
        return (await need_policy(tx, arn, account_id)).document
    except NotFoundError:
        return _NOTHING
