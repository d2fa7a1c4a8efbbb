"""``craqen admin account|user|group|role|key|policy``: who may use the store, straight in its
metadata."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..access.errors import PolicyError
from ..access.policy import Policy, parse_identity_policy, parse_trust_policy
from ..clock import SystemClock
from ..errors import InvalidArgumentError, NotFoundError
from ..identity.builtin import BUILTIN_POLICIES
from ..identity.context import AnyHolder
from ..identity.names import (
    POLICY_VERSIONS_MAX,
    holder_arn,
    policy_arn,
)
from ..identity.records import FIRST_ACCOUNT_ID, AccessKey, Account, ManagedPolicy, Role, User
from ..identity.schema import Kind
from ..identity.store import IdentityStore
from ..options import Config
from .open_kv import opened_kv

DOCUMENT_BYTES_MAX = 128 * 1024
SECRET_BYTES_MAX = 1024
LISTED_MAX = 10_000

ROOT_NAME = "root"


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[IdentityStore]:
    """The identities of the store of *config*, which may be running. Raises OperatorError."""
    async with opened_kv(config) as kv:
        store = await IdentityStore.open(kv, SystemClock(), config.cluster_secret())
        gateway = config.gateway
        await store.ensure_account(FIRST_ACCOUNT_ID, ROOT_NAME, gateway.uid, gateway.gid)
        yield store


def _document(name: str, parse: Callable[[str], Policy] = parse_identity_policy) -> str:
    """A policy from a file, or from standard input. Raises InvalidArgumentError."""
    text = _text(name, DOCUMENT_BYTES_MAX)
    try:
        parse(text)
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from error
    return text


def _text(name: str, bytes_max: int) -> str:
    try:
        text = sys.stdin.read(bytes_max + 1) if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{name}: cannot be read: {error}") from error
    if len(text) > bytes_max:
        raise InvalidArgumentError(f"{name}: larger than {bytes_max} bytes")
    return text


def account_row(account: Account) -> dict[str, Any]:
    """An account as it is shown."""
    return {
        "id": account.account_id,
        "name": account.name,
        "email": account.email,
        "canonical_id": account.canonical_id,
        "uid": account.uid,
        "gid": account.gid,
        "groups": list(account.groups),
    }


def holder_row(kind: Kind, holder: AnyHolder) -> dict[str, Any]:
    """A user, group or role as it is shown."""
    row: dict[str, Any] = {
        "name": holder.name,
        "arn": holder_arn(kind, holder.account_id, holder.path, holder.name),
        "id": holder.unique_id,
    }
    if kind is not Kind.GROUP:
        row |= {"uid": holder.uid, "gid": holder.gid, "groups": list(holder.groups)}
    if isinstance(holder, User):
        row["member_of"] = list(holder.member_of)
    row |= {
        "inline_policies": {name: json.loads(text) for name, text in holder.inline.items()},
        "attached_policies": list(holder.attached),
        "tags": holder.tags,
    }
    if isinstance(holder, Role):
        row |= {"trust": json.loads(holder.trust), "session_seconds": holder.session_seconds_max}
    return row


def key_row(key: AccessKey) -> dict[str, Any]:
    """An access key as it is shown: never its secret."""
    return {
        "access_key": key.access_key,
        "user": key.user,
        "account": key.account_id,
        "active": key.active,
    }


def policy_row(policy: ManagedPolicy) -> dict[str, Any]:
    """A managed policy as it is shown."""
    return {
        "name": policy.name,
        "arn": policy_arn(policy),
        "version": policy.default_version,
        "document": json.loads(policy.document),
    }


async def account(arguments: argparse.Namespace, config: Config) -> Any:
    """account create, list, show, set and delete."""
    async with opened(config) as store:
        what = arguments.what
        if what == "list":
            return [account_row(one) for one in await store.list_accounts()]
        if what == "create":
            made = await store.create_account(
                arguments.name,
                account_id=arguments.id,
                email=arguments.email or "",
                uid=arguments.uid or 0,
                gid=arguments.gid or 0,
                groups=arguments.groups or (),
            )
            result = {"done": f"account {made.account_id} is made", **account_row(made)}
            if arguments.key:
                key, secret = await store.create_access_key(made.account_id, "")
                result |= {"access_key": key.access_key, "secret_key": secret}
            return result
        if what == "set":
            changed = await store.update_account(
                arguments.id,
                name=arguments.name,
                email=arguments.email,
                uid=arguments.uid,
                gid=arguments.gid,
                groups=arguments.groups,
            )
            return {"done": f"account {arguments.id} is changed", **account_row(changed)}
        if what == "delete":
            await store.delete_account(arguments.id)
            return {"done": f"account {arguments.id} is removed; its buckets stay"}
        return account_row(await store.get_account(arguments.id))


async def user(arguments: argparse.Namespace, config: Config) -> Any:
    """user create, list, show, set and delete."""
    async with opened(config) as store:
        if arguments.what == "create":
            made = await store.create_user(
                arguments.account,
                arguments.name,
                path=arguments.path,
                uid=arguments.uid,
                gid=arguments.gid,
                groups=arguments.groups,
            )
            result = {"done": f"user {made.name} is made", **_identity_fields(Kind.USER, made)}
            if arguments.key:
                key, secret = await store.create_access_key(arguments.account, made.name)
                result |= {"access_key": key.access_key, "secret_key": secret}
            return result
        if arguments.what == "delete" and arguments.force:
            await _strip_user(store, arguments.account, arguments.name)
        return await _holder(store, Kind.USER, arguments)


async def group(arguments: argparse.Namespace, config: Config) -> Any:
    """group create, list, show, delete, add and remove."""
    async with opened(config) as store:
        what, account_id = arguments.what, arguments.account
        if what == "create":
            made = await store.create_group(account_id, arguments.name, path=arguments.path)
            return {"done": f"group {made.name} is made"}
        if what == "add":
            await store.add_to_group(account_id, arguments.name, arguments.user)
            return {"done": f"{arguments.user} is a member of {arguments.name}"}
        if what == "remove":
            await store.remove_from_group(account_id, arguments.name, arguments.user)
            return {"done": f"{arguments.user} is no member of {arguments.name} any more"}
        found = await _holder(store, Kind.GROUP, arguments)
        if what == "show":
            members = await store.group_members(account_id, arguments.name)
            found["members"] = [one.name for one in members]
        return found


async def role(arguments: argparse.Namespace, config: Config) -> Any:
    """role create, list, show, set, trust and delete."""
    async with opened(config) as store:
        if arguments.what == "create":
            made = await store.create_role(
                arguments.account,
                arguments.name,
                trust=_document(arguments.trust, parse_trust_policy),
                path=arguments.path,
                session_seconds_max=arguments.session_seconds,
                uid=arguments.uid,
                gid=arguments.gid,
                groups=arguments.groups,
            )
            return {"done": f"role {made.name} is made", **_identity_fields(Kind.ROLE, made)}
        if arguments.what == "trust":
            trust = _document(arguments.file, parse_trust_policy)
            await store.update(
                Kind.ROLE,
                arguments.account,
                arguments.name,
                lambda old: msgspec.structs.replace(old, trust=trust),
            )
            return {"done": f"role {arguments.name} trusts whom {arguments.file} says"}
        return await _holder(store, Kind.ROLE, arguments)


def _identity_fields(kind: Kind, holder: AnyHolder) -> dict[str, Any]:
    row = holder_row(kind, holder)
    return {name: row[name] for name in ("arn", "uid", "gid", "groups")}


async def _holder(store: IdentityStore, kind: Kind, arguments: argparse.Namespace) -> Any:
    """What is done to users, groups and roles alike."""
    what, account_id = arguments.what, arguments.account
    if what == "list":
        found, _ = await store.list_holders(kind, account_id, limit=LISTED_MAX)
        return [holder_row(kind, one) for one in found]
    name = arguments.name
    if what == "delete":
        await store.delete_holder(kind, account_id, name)
        return {"done": f"{kind.word} {name} is removed"}
    if what == "set":
        given = {
            field: value
            for field in ("uid", "gid", "groups")
            if (value := getattr(arguments, field)) is not None
        }
        changed = await store.update(
            kind, account_id, name, lambda old: msgspec.structs.replace(old, **given)
        )
        return {"done": f"{kind.word} {name} is changed", **_identity_fields(kind, changed)}
    return holder_row(kind, await store.get_holder(kind, account_id, name))


async def _strip_user(store: IdentityStore, account_id: str, name: str) -> None:
    """Take from a user all that keeps it from being removed."""
    found = await store.get_user(account_id, name)
    for key in await store.list_access_keys(account_id, name):
        await store.delete_access_key(account_id, name, key.access_key)
    for group_name in found.member_of:
        await store.remove_from_group(account_id, group_name, name)
    for arn in found.attached:
        await store.detach(Kind.USER, account_id, name, arn)
    for policy_name in found.inline:
        await store.delete_inline(Kind.USER, account_id, name, policy_name)


async def key(arguments: argparse.Namespace, config: Config) -> Any:
    """key create, list, enable, disable and delete."""
    async with opened(config) as store:
        what, account_id = arguments.what, arguments.account
        if what == "create":
            secret = ""
            if arguments.secret_file:
                secret = _text(arguments.secret_file, SECRET_BYTES_MAX).strip()
            made, secret = await store.create_access_key(
                account_id, arguments.user, access_key=arguments.access_key, secret=secret
            )
            owner = f"user {made.user}" if made.user else f"account {account_id} itself"
            return {
                "done": f"a key of {owner}; the secret is not shown again",
                "access_key": made.access_key,
                "secret_key": secret,
            }
        if what == "list":
            return [key_row(one) for one in await _keys(store, account_id, arguments.user)]
        access_key = arguments.access_key
        found = await store.get_access_key(access_key)
        if what == "delete":
            await store.delete_access_key(found.account_id, found.user, access_key)
            return {"done": f"key {access_key} is removed"}
        active = what == "enable"
        await store.set_access_key(found.account_id, found.user, access_key, active=active)
        return {"done": f"key {access_key} is {'enabled' if active else 'disabled'}"}


async def _keys(store: IdentityStore, account_id: str, name: str | None) -> list[AccessKey]:
    """Of one user, or of the account and all its users."""
    if name:
        return await store.list_access_keys(account_id, name)
    found = await store.list_access_keys(account_id, "")
    users, _ = await store.list_holders(Kind.USER, account_id, limit=LISTED_MAX)
    for one in users:
        found += await store.list_access_keys(account_id, one.name)
    return found


async def policy(arguments: argparse.Namespace, config: Config) -> Any:
    """policy create, list, show, update, delete, attach, detach, put and remove."""
    async with opened(config) as store:
        what, account_id = arguments.what, arguments.account
        if what == "list":
            found, _ = await store.list_policies(account_id, limit=LISTED_MAX)
            return [policy_row(one) for one in (*found, *BUILTIN_POLICIES.values())]
        if what in ("put", "remove"):
            return await _inline(store, arguments)
        if what == "create":
            document = _document(arguments.file)
            made = await store.create_policy(account_id, arguments.name, document)
            return {"done": f"policy {made.name} is made", "arn": policy_arn(made)}
        named = await _named_policy(store, account_id, arguments.name)
        arn = policy_arn(named)
        if what in ("attach", "detach"):
            kind, name = _whose(arguments)
            change = store.attach if what == "attach" else store.detach
            await change(kind, account_id, name, arn)
            return {"done": f"policy {named.name} is {what}ed: {kind.word} {name}"}
        if what == "update":
            return await _update_policy(store, named, arn, arguments)
        if what == "delete":
            for version in named.versions:
                if version.version_id != named.default_version:
                    await store.delete_policy_version(arn, account_id, version.version_id)
            await store.delete_policy(arn, account_id)
            return {"done": f"policy {named.name} is removed"}
        return policy_row(named)


async def _update_policy(
    store: IdentityStore, named: ManagedPolicy, arn: str, arguments: argparse.Namespace
) -> Any:
    """A new default version; the oldest other one goes if there are too many."""
    document = _document(arguments.file)
    if len(named.versions) >= POLICY_VERSIONS_MAX:
        oldest = next(
            one.version_id for one in named.versions if one.version_id != named.default_version
        )
        await store.delete_policy_version(arn, arguments.account, oldest)
    version = await store.create_policy_version(arn, arguments.account, document, as_default=True)
    return {"done": f"policy {named.name} is now {version.version_id}"}


async def _inline(store: IdentityStore, arguments: argparse.Namespace) -> Any:
    kind, name = _whose(arguments)
    account_id, policy_name = arguments.account, arguments.name
    if arguments.what == "put":
        document = _document(arguments.file)
        await store.put_inline(kind, account_id, name, policy_name, document)
        return {"done": f"{kind.word} {name} has the policy {policy_name}"}
    await store.delete_inline(kind, account_id, name, policy_name)
    return {"done": f"{kind.word} {name} has the policy {policy_name} no more"}


async def _named_policy(store: IdentityStore, account_id: str, name: str) -> ManagedPolicy:
    """By its ARN, or by its name alone. Raises NotFoundError."""
    if name.startswith("arn:"):
        return await store.get_policy(name, account_id)
    found, _ = await store.list_policies(account_id, limit=LISTED_MAX)
    for one in (*found, *BUILTIN_POLICIES.values()):
        if one.name.lower() == name.lower():
            return one
    raise NotFoundError(f"there is no policy {name} in account {account_id}")


def _whose(arguments: argparse.Namespace) -> tuple[Kind, str]:
    for kind in Kind:
        name = getattr(arguments, f"of_{kind.word}")
        if name:
            return kind, name
    raise InvalidArgumentError("say whose: --user, --group or --role NAME")
