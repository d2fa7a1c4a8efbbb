"""Accounts, users, groups, roles and policies: what the store promises."""

from __future__ import annotations

import pytest

from craqen.core.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LimitExceededError,
    NotEmptyError,
    NotFoundError,
)
from craqen.core.identity.builtin import BUILTIN_POLICIES
from craqen.core.identity.names import HOLDERS_MAX, policy_arn
from craqen.core.identity.records import canonical_id_of
from craqen.core.identity.schema import Kind
from craqen.core.identity.store import IdentityStore
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import ReadTransaction
from craqen.tests.core.identity.support import ACCOUNT, TRUST, policy, with_store

READ_ONLY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


def test_accounts_are_found_by_what_names_them() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        made = await store.create_account("other", email="Other@example.com", uid=1)
        assert await store.account_by_email("other@EXAMPLE.com") == made
        assert await store.account_by_canonical_id(canonical_id_of(made.account_id)) == made
        assert await store.account_by_email("nobody@example.com") is None
        with pytest.raises(AlreadyExistsError):
            await store.create_account("third", email="other@example.com")
        changed = await store.update_account(made.account_id, email="new@example.com", gid=4)
        assert (changed.uid, changed.gid, changed.name) == (1, 4, "other")
        assert await store.account_by_email("other@example.com") is None
        assert len(await store.list_accounts()) == 2
        await store.create_user(made.account_id, "u")
        with pytest.raises(NotEmptyError):
            await store.delete_account(made.account_id)
        await store.delete_holder(Kind.USER, made.account_id, "u")
        key, _ = await store.create_access_key(made.account_id, "")
        await store.delete_account(made.account_id)
        assert await store.account_by_email("new@example.com") is None
        with pytest.raises(NotFoundError):
            await store.get_access_key(key.access_key)

    with_store(test)


def test_a_user_has_the_posix_ids_of_its_account_or_its_own() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        plain = await store.create_user(ACCOUNT, "plain")
        assert (plain.uid, plain.gid, plain.groups) == (7, 8, (9,))
        own = await store.create_user(ACCOUNT, "own", uid=1000, gid=1001, groups=())
        assert (own.uid, own.gid, own.groups) == (1000, 1001, ())

    with_store(test)


def test_names_do_not_differ_by_case_alone() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        await store.create_user(ACCOUNT, "Alice", path="/a/")
        with pytest.raises(AlreadyExistsError):
            await store.create_user(ACCOUNT, "alice")
        assert (await store.get_user(ACCOUNT, "ALICE")).name == "Alice"
        for wrong in ("", "a b", "a/b", "x" * 65):
            with pytest.raises(InvalidArgumentError):
                await store.create_user(ACCOUNT, wrong)

    with_store(test)


def test_listing_in_pages() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        for number in range(7):
            await store.create_user(ACCOUNT, f"u{number}", path="/odd/" if number % 2 else "/")
        seen: list[str] = []
        after = b""
        while True:
            found, after = await store.list_holders(Kind.USER, ACCOUNT, after=after, limit=3)
            assert len(found) <= 3
            seen += [one.name for one in found]
            if not after:
                break
        assert seen == [f"u{number}" for number in range(7)]
        odd, end = await store.list_holders(Kind.USER, ACCOUNT, path_prefix="/odd/", limit=3)
        assert [one.name for one in odd] == ["u1", "u3", "u5"]
        assert end == b""

    with_store(test)


def test_nothing_is_removed_while_something_hangs_on_it() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        await store.create_user(ACCOUNT, "u")
        await store.create_group(ACCOUNT, "g")
        key, _ = await store.create_access_key(ACCOUNT, "u")
        await store.add_to_group(ACCOUNT, "G", "U")
        await store.put_inline(Kind.USER, ACCOUNT, "u", "p", policy("s3:*"))
        await store.attach(Kind.USER, ACCOUNT, "u", READ_ONLY)
        undo = [
            store.delete_access_key(ACCOUNT, "u", key.access_key),
            store.remove_from_group(ACCOUNT, "g", "u"),
            store.delete_inline(Kind.USER, ACCOUNT, "u", "p"),
            store.detach(Kind.USER, ACCOUNT, "u", READ_ONLY),
        ]
        with pytest.raises(NotEmptyError):
            await store.delete_holder(Kind.GROUP, ACCOUNT, "g")
        for step in undo:
            with pytest.raises(NotEmptyError):
                await store.delete_holder(Kind.USER, ACCOUNT, "u")
            await step
        await store.delete_holder(Kind.USER, ACCOUNT, "u")
        await store.delete_holder(Kind.GROUP, ACCOUNT, "g")
        with pytest.raises(NotFoundError):
            await store.get_user(ACCOUNT, "u")

    with_store(test)


def test_everything_follows_a_new_name() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        managed = policy_arn(await store.create_policy(ACCOUNT, "managed", policy("s3:*")))
        await store.create_user(ACCOUNT, "old", boundary=managed)
        await store.create_user(ACCOUNT, "taken")
        await store.create_group(ACCOUNT, "g")
        key, secret = await store.create_access_key(ACCOUNT, "old")
        await store.add_to_group(ACCOUNT, "g", "old")
        await store.attach(Kind.USER, ACCOUNT, "old", managed)
        with pytest.raises(AlreadyExistsError):
            await store.rename(Kind.USER, ACCOUNT, "old", new_name="Taken")
        await store.rename(Kind.USER, ACCOUNT, "old", new_name="new", new_path="/p/")
        await store.rename(Kind.GROUP, ACCOUNT, "g", new_name="h")
        assert [one.name for one in await store.group_members(ACCOUNT, "h")] == ["new"]
        assert (await store.get_user(ACCOUNT, "new")).member_of == ("h",)
        assert [one.access_key for one in await store.list_access_keys(ACCOUNT, "new")] == [
            key.access_key
        ]
        found = await store.directory.find(key.access_key)
        assert found is not None
        assert (found.secret_key, found.identity.user_name) == (secret, "new")
        assert await store.attachments(managed, ACCOUNT) == [(Kind.USER, "new")]
        assert await store.attachments(managed, ACCOUNT, "boundary") == [(Kind.USER, "new")]

    with_store(test)


def test_versions_of_a_managed_policy() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        made = await store.create_policy(ACCOUNT, "p", policy("s3:a"), path="/x/")
        arn = policy_arn(made)
        assert arn == f"arn:aws:iam::{ACCOUNT}:policy/x/p"
        second = await store.create_policy_version(arn, ACCOUNT, policy("s3:b"), as_default=True)
        assert second.version_id == "v2"
        assert (await store.get_policy(arn, ACCOUNT)).document == policy("s3:b")
        with pytest.raises(NotEmptyError):
            await store.delete_policy_version(arn, ACCOUNT, "v2")
        with pytest.raises(NotEmptyError):
            await store.delete_policy(arn, ACCOUNT)
        await store.set_default_version(arn, ACCOUNT, "v1")
        await store.delete_policy_version(arn, ACCOUNT, "v2")
        third = await store.create_policy_version(arn, ACCOUNT, policy("s3:c"), as_default=False)
        assert third.version_id == "v3", "numbers are never used again"
        for _ in range(3):
            await store.create_policy_version(arn, ACCOUNT, policy("s3:d"), as_default=False)
        with pytest.raises(LimitExceededError):
            await store.create_policy_version(arn, ACCOUNT, policy("s3:e"), as_default=False)
        for number in (3, 4, 5, 6):
            await store.delete_policy_version(arn, ACCOUNT, f"v{number}")
        await store.create_role(ACCOUNT, "r", trust=TRUST, boundary=arn)
        with pytest.raises(NotEmptyError):
            await store.delete_policy(arn, ACCOUNT)
        await store.set_boundary(Kind.ROLE, ACCOUNT, "r", "")
        await store.delete_policy(arn, ACCOUNT)
        with pytest.raises(NotFoundError):
            await store.get_policy(arn, ACCOUNT)

    with_store(test)


def test_a_policy_of_another_account_is_not_there() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        other = await store.create_account("other")
        arn = policy_arn(await store.create_policy(other.account_id, "p", policy("s3:*")))
        await store.create_user(ACCOUNT, "u")
        with pytest.raises(NotFoundError):
            await store.attach(Kind.USER, ACCOUNT, "u", arn)
        with pytest.raises(InvalidArgumentError):
            await store.delete_policy(READ_ONLY, ACCOUNT)
        assert (await store.get_policy(READ_ONLY, ACCOUNT)) is BUILTIN_POLICIES[READ_ONLY]

    with_store(test)


def test_limits() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        await store.create_user(ACCOUNT, "u")
        await store.create_access_key(ACCOUNT, "u")
        await store.create_access_key(ACCOUNT, "u")
        with pytest.raises(LimitExceededError):
            await store.create_access_key(ACCOUNT, "u")
        with pytest.raises(LimitExceededError):
            await store.put_inline(Kind.USER, ACCOUNT, "u", "p", policy("s" * 2048))
        padded = policy("s3:*") + " " * 10_000
        await store.put_inline(Kind.USER, ACCOUNT, "u", "p", padded)
        many = {f"k{number}": "v" for number in range(51)}
        with pytest.raises(InvalidArgumentError):
            await store.set_tags(Kind.USER, ACCOUNT, "u", many, [])
        with pytest.raises(InvalidArgumentError):
            await store.set_tags(Kind.USER, ACCOUNT, "u", {"aws:x": "v"}, [])

    with_store(test)


def test_an_account_has_no_more_than_its_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOLDERS_MAX, Kind.USER, 2)

    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        await store.create_user(ACCOUNT, "a")
        await store.create_user(ACCOUNT, "b")
        with pytest.raises(LimitExceededError):
            await store.create_user(ACCOUNT, "c")
        await store.delete_holder(Kind.USER, ACCOUNT, "a")
        await store.create_user(ACCOUNT, "c")
        assert await store.count_holders(Kind.USER, ACCOUNT) == 2

    with_store(test)


def test_no_secret_lies_open_in_the_store() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        key, secret = await store.create_access_key(ACCOUNT, "")
        assert secret not in repr(key)

        async def everything(tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
            return await tx.get_range(b"", b"\xff")

        rows = await kv.read(everything)
        assert any(key.access_key.encode() in value for _, value in rows)
        assert not any(secret.encode() in value for _, value in rows)

    with_store(test)
