"""Finding who a key stands for: always as things are now, and at the cost of one key if nothing
changed."""

from __future__ import annotations

import pytest

from craqen.core.challenge import ClusterSecret
from craqen.core.clock import SystemClock
from craqen.core.errors import DataLossError, InvalidArgumentError
from craqen.core.identity.names import policy_arn
from craqen.core.identity.records import Principal, Session, SessionToken
from craqen.core.identity.schema import Kind
from craqen.core.identity.store import IdentityStore
from craqen.core.kv.memory import MemoryStore
from craqen.tests.core.identity.support import ACCOUNT, SECRET, TRUST, policy, with_store


def test_keys_of_account_and_user() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        root, root_secret = await store.create_access_key(ACCOUNT, "")
        found = await store.directory.find(root.access_key)
        assert found is not None
        assert found.secret_key == root_secret
        assert root_secret not in repr(found)
        assert found.identity.principal is Principal.ACCOUNT
        assert found.identity.arn == f"arn:aws:iam::{ACCOUNT}:root"
        await store.create_user(ACCOUNT, "u", path="/p/", tags={"team": "a"})
        await store.create_access_key(ACCOUNT, "u", access_key="MYKEY", secret="a/b=")
        found = await store.directory.find("MYKEY")
        assert found is not None
        assert found.secret_key == "a/b="
        who = found.identity
        assert who.arn == f"arn:aws:iam::{ACCOUNT}:user/p/u"
        assert (who.uid, who.gid, who.groups) == (7, 8, (9,))
        assert who.tags == {"team": "a"}
        assert await store.directory.find("NOSUCHKEY") is None

    with_store(test)


def test_a_change_by_another_process_holds_at_once() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        other = await IdentityStore.open(kv, SystemClock(), SECRET)
        await store.create_user(ACCOUNT, "u")
        key, _ = await store.create_access_key(ACCOUNT, "u")

        async def policies() -> tuple[str, ...]:
            found = await store.directory.find(key.access_key)
            assert found is not None
            return found.identity.grants.policies

        assert await policies() == ()
        await other.put_inline(Kind.USER, ACCOUNT, "u", "p", policy("s3:a"))
        assert await policies() == (policy("s3:a"),)
        arn = policy_arn(await other.create_policy(ACCOUNT, "m", policy("s3:b")))
        await other.create_group(ACCOUNT, "g")
        await other.attach(Kind.GROUP, ACCOUNT, "g", arn)
        await other.add_to_group(ACCOUNT, "g", "u")
        assert await policies() == (policy("s3:a"), policy("s3:b"))
        await other.create_policy_version(arn, ACCOUNT, policy("s3:c"), as_default=True)
        assert await policies() == (policy("s3:a"), policy("s3:c"))
        await other.set_access_key(ACCOUNT, "u", key.access_key, active=False)
        assert await store.directory.find(key.access_key) is None
        await other.set_access_key(ACCOUNT, "u", key.access_key, active=True)
        assert len(await policies()) == 2
        await other.delete_access_key(ACCOUNT, "u", key.access_key)
        assert await store.directory.find(key.access_key) is None

    with_store(test)


def test_what_did_not_change_is_not_read_again() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        key, _ = await store.create_access_key(ACCOUNT, "")
        first = await store.directory.find(key.access_key)
        assert await store.directory.find(key.access_key) is first

    with_store(test)


def _token(unique_id: str, session: Session, *, role: str = "r", user: str = "") -> SessionToken:
    return SessionToken("ASIATEST", "temporary secret", ACCOUNT, user, role, unique_id, session)


def test_sessions_of_roles() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        role = await store.create_role(
            ACCOUNT, "r", trust=TRUST, uid=42, tags={"Team": "role", "kept": "yes"}
        )
        await store.put_inline(Kind.ROLE, ACCOUNT, "r", "p", policy("s3:a"))
        session = Session("job", 1, 2, policies=(policy("s3:b"),), tags={"team": "session"})
        token = store.directory.seal_token(_token(role.unique_id, session))
        assert "temporary secret" not in token
        found = await store.directory.find("ASIATEST", token)
        assert found is not None
        assert "temporary secret" not in repr(found)
        assert token not in repr(found)
        assert found.secret_key == "temporary secret"
        assert found.expires_seconds == 2
        who = found.identity
        assert who.principal is Principal.ROLE
        assert who.arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/r/job"
        assert who.role_arn == f"arn:aws:iam::{ACCOUNT}:role/r"
        assert who.user_id == f"{role.unique_id}:job"
        assert who.uid == 42
        assert who.tags == {"kept": "yes", "team": "session"}
        assert who.grants.policies == (policy("s3:a"),)
        assert who.grants.session == (policy("s3:b"),)
        await store.delete_inline(Kind.ROLE, ACCOUNT, "r", "p")
        await store.delete_holder(Kind.ROLE, ACCOUNT, "r")
        await store.create_role(ACCOUNT, "r", trust=TRUST)
        assert await store.directory.find("ASIATEST", token) is None, "another role"

    with_store(test)


def test_forged_tokens() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        role = await store.create_role(ACCOUNT, "r", trust=TRUST)
        token = store.directory.seal_token(_token(role.unique_id, Session("s", 1, 2)))
        middle = len(token) // 2
        flipped = "A" if token[middle] != "A" else "B"
        foreign = await IdentityStore.open(kv, SystemClock(), ClusterSecret(b"another secret ..."))
        for wrong in (
            token[:-4],
            token[:middle] + flipped + token[middle + 1 :],
            "CQST",
            "not a token",
            "CQST" + "A" * 20_000,
            "\u20ac" * 10,
            foreign.directory.seal_token(_token(role.unique_id, Session("s", 1, 2))),
        ):
            with pytest.raises(InvalidArgumentError):
                await store.directory.find("ASIATEST", wrong)
        with pytest.raises(InvalidArgumentError):
            await store.directory.find("ASIAOTHER", token)

    with_store(test)


def test_a_secret_sealed_under_another_file_is_told_apart_from_none() -> None:
    async def test(store: IdentityStore, kv: MemoryStore) -> None:
        key, _ = await store.create_access_key(ACCOUNT, "")
        foreign = await IdentityStore.open(kv, SystemClock(), None)
        with pytest.raises(DataLossError, match="secret file"):
            await foreign.directory.find(key.access_key)

    with_store(test)
