"""Accounts and access keys in the KV."""

from __future__ import annotations

from ..errors import AlreadyExistsError, LimitExceededError, NotEmptyError, NotFoundError
from ..kv.store import ReadTransaction, Transaction
from .context import Context, get_record, is_empty, need_account, need_holder, page
from .names import (
    KEYS_OF_USER_MAX,
    check_access_key,
    check_account_id,
    check_email,
    new_access_key,
    new_account_id,
    new_secret,
)
from .records import FIRST_ACCOUNT_ID, AccessKey, Account, canonical_id_of
from .schema import Kind, encode, key, last_name, span

ACCOUNTS_LISTED_MAX = 10_000


class Accounts:
    """What owns buckets, and the keys that prove who asks."""

    _context: Context

    async def create_account(
        self,
        name: str,
        *,
        account_id: str = "",
        email: str = "",
        uid: int = 0,
        gid: int = 0,
        groups: tuple[int, ...] = (),
    ) -> Account:
        """Make an account; without an id of its own it gets a random one.

        Raises AlreadyExistsError (id or e-mail address), InvalidArgumentError.
        """
        if account_id:
            check_account_id(account_id)
        if email:
            check_email(email)
        now_ns = self._context.clock.wall_ns()

        async def create(tx: Transaction) -> Account:
            own_id = account_id or new_account_id()
            if await tx.get(key("a", own_id)) is not None:
                raise AlreadyExistsError(f"The account {own_id} already exists.")
            if email and await tx.get(key("e", email.lower())) is not None:
                raise AlreadyExistsError(f"The e-mail address {email} belongs to an account.")
            account = Account(own_id, name, now_ns, email, uid, gid, groups)
            _put_account(tx, account)
            return account

        return await self._context.change(create)

    async def ensure_account(self, account_id: str, name: str, uid: int, gid: int) -> Account:
        """The account, made if there is none: for that of the store itself."""
        now_ns = self._context.clock.wall_ns()

        async def ensure(tx: Transaction) -> Account:
            account = await get_record(tx, key("a", account_id), Account)
            if account is None:
                account = Account(account_id, name, now_ns, "", uid, gid)
                _put_account(tx, account)
            return account

        return await self._context.kv.transact(ensure)

    async def update_account(
        self,
        account_id: str,
        *,
        name: str | None = None,
        email: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: tuple[int, ...] | None = None,
    ) -> Account:
        """Change what is given. Raises NotFoundError, AlreadyExistsError, InvalidArgumentError."""
        if email:
            check_email(email)

        async def update(tx: Transaction) -> Account:
            old = await need_account(tx, account_id)
            new = Account(
                account_id,
                old.name if name is None else name,
                old.created_ns,
                old.email if email is None else email,
                old.uid if uid is None else uid,
                old.gid if gid is None else gid,
                old.groups if groups is None else groups,
            )
            if old.email and old.email.lower() != new.email.lower():
                tx.clear(key("e", old.email.lower()))
            if new.email and new.email.lower() != old.email.lower():
                if await tx.get(key("e", new.email.lower())) is not None:
                    raise AlreadyExistsError(f"The e-mail address {email} belongs to an account.")
            _put_account(tx, new)
            return new

        return await self._context.change(update)

    async def delete_account(self, account_id: str) -> None:
        """Remove an account without users, groups, roles, policies and providers, and its keys.
        Buckets are not looked at. Raises NotFoundError, NotEmptyError."""

        async def delete(tx: Transaction) -> None:
            account = await need_account(tx, account_id)
            if account_id == FIRST_ACCOUNT_ID:
                raise NotEmptyError("The store's own account cannot be removed.")
            for letter in "ugrpo":
                if not await is_empty(tx, account_id, letter=letter):
                    raise NotEmptyError(
                        f"The account {account_id} still has users, groups, roles, policies or "
                        f"providers: delete them first."
                    )
            for stored, _ in await tx.get_range(*span("x", account_id, "")):
                tx.clear(key("k", last_name(stored)))
            tx.clear_range(*span("x", account_id))
            tx.clear_range(*span("q", account_id))
            tx.clear(key("a", account_id))
            tx.clear(key("c", account.canonical_id))
            if account.email:
                tx.clear(key("e", account.email.lower()))

        await self._context.change(delete)

    async def get_account(self, account_id: str) -> Account:
        """Raises NotFoundError."""
        return await self._context.kv.read(lambda tx: need_account(tx, account_id))

    async def list_accounts(self) -> list[Account]:
        """All accounts, by id; at most ACCOUNTS_LISTED_MAX."""

        async def read(tx: ReadTransaction) -> list[Account]:
            found, _ = await page(tx, span("a"), Account, after=b"", limit=ACCOUNTS_LISTED_MAX)
            return found

        return await self._context.kv.read(read)

    async def account_by_canonical_id(self, canonical_id: str) -> Account | None:
        """The account that ACLs name so."""
        return await self._context.kv.read(lambda tx: _named(tx, key("c", canonical_id)))

    async def account_by_email(self, email: str) -> Account | None:
        """The account with an e-mail address."""
        return await self._context.kv.read(lambda tx: _named(tx, key("e", email.lower())))

    async def create_access_key(
        self, account_id: str, user: str, *, access_key: str = "", secret: str = ""
    ) -> tuple[AccessKey, str]:
        """Make a key of a user, or of the account itself (*user* empty); return it and its secret,
        which is never shown again. Raises NotFoundError, LimitExceededError, AlreadyExistsError,
        InvalidArgumentError."""
        if access_key:
            check_access_key(access_key)
        now_ns = self._context.clock.wall_ns()
        secret = secret or new_secret()

        async def create(tx: Transaction) -> AccessKey:
            owner = ""
            if user:
                owner = (await need_holder(tx, Kind.USER, account_id, user)).name
            else:
                await need_account(tx, account_id)
            if len(await tx.get_range(*span("x", account_id, owner))) >= KEYS_OF_USER_MAX:
                raise LimitExceededError(
                    f"Cannot exceed quota for AccessKeysPerUser: {KEYS_OF_USER_MAX}"
                )
            own_key = access_key or new_access_key()
            if await tx.get(key("k", own_key)) is not None:
                raise AlreadyExistsError(f"The access key {own_key} already exists.")
            sealed = self._context.sealer.seal(secret.encode(), own_key.encode())
            record = AccessKey(own_key, account_id, owner, sealed, now_ns)
            tx.set(key("k", own_key), encode(record))
            tx.set(key("x", account_id, owner, own_key), b"")
            return record

        return await self._context.change(create), secret

    async def list_access_keys(self, account_id: str, user: str) -> list[AccessKey]:
        """The keys of a user, or of the account itself. Raises NotFoundError."""

        async def read(tx: ReadTransaction) -> list[AccessKey]:
            owner = ""
            if user:
                owner = (await need_holder(tx, Kind.USER, account_id, user)).name
            rows = await tx.get_range(*span("x", account_id, owner))
            found = [
                await get_record(tx, key("k", last_name(stored)), AccessKey) for stored, _ in rows
            ]
            return [one for one in found if one is not None]

        return await self._context.kv.read(read)

    async def get_access_key(self, access_key: str) -> AccessKey:
        """Raises NotFoundError."""
        return await self._context.kv.read(lambda tx: _need_key(tx, access_key))

    async def set_access_key(
        self, account_id: str, user: str | None, access_key: str, *, active: bool
    ) -> None:
        """Switch a key on or off. *user* None: whosever it is. Raises NotFoundError."""

        async def update(tx: Transaction) -> None:
            found = await _own_key(tx, account_id, user, access_key)
            new = AccessKey(
                access_key, account_id, found.user, found.sealed_secret, found.created_ns, active
            )
            tx.set(key("k", access_key), encode(new))

        await self._context.change(update)

    async def delete_access_key(self, account_id: str, user: str | None, access_key: str) -> None:
        """Raises NotFoundError."""

        async def delete(tx: Transaction) -> None:
            found = await _own_key(tx, account_id, user, access_key)
            tx.clear(key("k", access_key))
            tx.clear(key("x", account_id, found.user, access_key))

        await self._context.change(delete)


def _put_account(tx: Transaction, account: Account) -> None:
    tx.set(key("a", account.account_id), encode(account))
    tx.set(key("c", canonical_id_of(account.account_id)), account.account_id.encode())
    if account.email:
        tx.set(key("e", account.email.lower()), account.account_id.encode())


async def _named(tx: ReadTransaction, index: bytes) -> Account | None:
    value = await tx.get(index)
    return None if value is None else await get_record(tx, key("a", value.decode()), Account)


async def _need_key(tx: ReadTransaction, access_key: str) -> AccessKey:
    found = await get_record(tx, key("k", access_key), AccessKey)
    if found is None:
        raise NotFoundError(f"The Access Key with id {access_key} cannot be found.")
    return found


async def _own_key(
    tx: ReadTransaction, account_id: str, user: str | None, access_key: str
) -> AccessKey:
    found = await _need_key(tx, access_key)
    theirs = user is not None and found.user.lower() != user.lower()
    if found.account_id != account_id or theirs:
        raise NotFoundError(f"The Access Key with id {access_key} cannot be found.")
    return found
