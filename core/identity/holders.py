"""Users, groups and roles in the KV: their making and removal, tags, policies and memberships."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from ..errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LimitExceededError,
    NotEmptyError,
    NotFoundError,
)
from ..kv.store import ReadTransaction, Transaction
from .context import (
    AnyHolder,
    Context,
    count_of,
    count_one_less,
    count_one_more,
    get_holder,
    get_record,
    is_empty,
    need_account,
    need_holder,
    page,
    put_holder,
)
from .names import (
    ATTACHED_MAX,
    GROUPS_OF_USER_MAX,
    HOLDERS_MAX,
    INLINE_CHARACTERS_MAX,
    check_name,
    check_path,
    check_policy_name,
    check_tags,
    new_unique_id,
    policy_size,
)
from .policies import need_policy
from .records import AccessKey, Group, Role, User
from .schema import RECORD_OF, Kind, encode, holder_key, key, last_name, span

GROUP_MEMBERS_LISTED_MAX = 1000


class Holders:
    """Whoever may have policies."""

    _context: Context

    async def create_user(
        self,
        account_id: str,
        name: str,
        *,
        path: str = "/",
        tags: dict[str, str] | None = None,
        boundary: str = "",
        uid: int | None = None,
        gid: int | None = None,
        groups: tuple[int, ...] | None = None,
    ) -> User:
        """Make a user; POSIX ids that are not given are the account's.

        Raises NotFoundError (account, boundary), AlreadyExistsError, InvalidArgumentError.
        """

        async def make(tx: Transaction) -> User:
            account = await need_account(tx, account_id)
            return User(
                account_id,
                name,
                path,
                new_unique_id(Kind.USER),
                self._context.clock.wall_ns(),
                tags=tags or {},
                uid=account.uid if uid is None else uid,
                gid=account.gid if gid is None else gid,
                groups=account.groups if groups is None else groups,
                boundary=boundary,
            )

        return cast(User, await self._create(Kind.USER, make, name, path, tags, boundary))

    async def create_group(self, account_id: str, name: str, *, path: str = "/") -> Group:
        """Make a group. Raises NotFoundError (account), AlreadyExistsError,
        InvalidArgumentError."""

        async def make(tx: Transaction) -> Group:
            await need_account(tx, account_id)
            now_ns = self._context.clock.wall_ns()
            return Group(account_id, name, path, new_unique_id(Kind.GROUP), now_ns)

        return cast(Group, await self._create(Kind.GROUP, make, name, path, None, ""))

    async def create_role(
        self,
        account_id: str,
        name: str,
        *,
        trust: str,
        path: str = "/",
        description: str = "",
        session_seconds_max: int = 3600,
        tags: dict[str, str] | None = None,
        boundary: str = "",
        uid: int | None = None,
        gid: int | None = None,
        groups: tuple[int, ...] | None = None,
    ) -> Role:
        """Make a role that *trust* (a checked policy) lets others assume; POSIX ids that are not
        given are the account's.

        Raises NotFoundError (account, boundary), AlreadyExistsError, InvalidArgumentError.
        """

        async def make(tx: Transaction) -> Role:
            account = await need_account(tx, account_id)
            return Role(
                account_id,
                name,
                path,
                new_unique_id(Kind.ROLE),
                self._context.clock.wall_ns(),
                tags=tags or {},
                uid=account.uid if uid is None else uid,
                gid=account.gid if gid is None else gid,
                groups=account.groups if groups is None else groups,
                trust=trust,
                description=description,
                session_seconds_max=session_seconds_max,
                boundary=boundary,
            )

        return cast(Role, await self._create(Kind.ROLE, make, name, path, tags, boundary))

    async def _create(
        self,
        kind: Kind,
        make: Callable[[Transaction], object],
        name: str,
        path: str,
        tags: dict[str, str] | None,
        boundary: str,
    ) -> AnyHolder:
        check_name(kind, name)
        check_path(path)
        check_tags(tags or {})

        async def create(tx: Transaction) -> AnyHolder:
            holder = await make(tx)  # type: ignore[misc]
            if await get_holder(tx, kind, holder.account_id, name) is not None:
                raise AlreadyExistsError(
                    f"{kind.word.capitalize()} with name {name} already exists."
                )
            word = kind.word.capitalize() + "s"
            await count_one_more(tx, holder.account_id, kind.value, HOLDERS_MAX[kind], word)
            if boundary:
                await need_policy(tx, boundary, holder.account_id)
                tx.set(key("t", boundary, "boundary", holder.account_id, kind.value, name), b"")
            put_holder(tx, kind, holder)
            return cast(AnyHolder, holder)

        return await self._context.change(create)

    async def get_user(self, account_id: str, name: str) -> User:
        """Raises NotFoundError."""
        return cast(User, await self._get(Kind.USER, account_id, name))

    async def get_group(self, account_id: str, name: str) -> Group:
        """Raises NotFoundError."""
        return cast(Group, await self._get(Kind.GROUP, account_id, name))

    async def get_role(self, account_id: str, name: str) -> Role:
        """Raises NotFoundError."""
        return cast(Role, await self._get(Kind.ROLE, account_id, name))

    async def get_holder(self, kind: Kind, account_id: str, name: str) -> AnyHolder:
        """Raises NotFoundError."""
        return await self._get(kind, account_id, name)

    async def _get(self, kind: Kind, account_id: str, name: str) -> AnyHolder:
        return await self._context.kv.read(lambda tx: need_holder(tx, kind, account_id, name))

    async def list_holders(
        self, kind: Kind, account_id: str, *, path_prefix: str = "/", after: bytes = b"", limit: int
    ) -> tuple[list[AnyHolder], bytes]:
        """A page in the order of names, and what to give as *after* for the next: empty at the
        end."""

        async def read(tx: ReadTransaction) -> tuple[list[AnyHolder], bytes]:
            found, last = await page(
                tx,
                span(kind.value, account_id),
                RECORD_OF[kind],
                after=after,
                limit=limit,
                wanted=lambda one: one.path.startswith(path_prefix),
            )
            return list(found), last

        return await self._context.kv.read(read)

    async def count_holders(self, kind: Kind, account_id: str) -> int:
        """How many there are."""
        return await self._context.kv.read(lambda tx: count_of(tx, account_id, kind.value))

    async def update(
        self,
        kind: Kind,
        account_id: str,
        name: str,
        change: Callable[[AnyHolder], AnyHolder],
        *,
        also: Callable[[Transaction, AnyHolder], object] | None = None,
    ) -> AnyHolder:
        """Replace a holder's record by what *change* makes of it: it must not change the name.
        *also* is awaited in the same transaction. Raises NotFoundError, and what *change* does."""

        async def write(tx: Transaction) -> AnyHolder:
            old = await need_holder(tx, kind, account_id, name)
            if also is not None:
                await also(tx, old)  # type: ignore[misc]
            new = change(old)
            put_holder(tx, kind, new)
            return new

        return await self._context.change(write)

    async def rename(
        self, kind: Kind, account_id: str, name: str, *, new_name: str = "", new_path: str = ""
    ) -> AnyHolder:
        """Give a user or group another name or path. Raises NotFoundError, AlreadyExistsError,
        InvalidArgumentError."""
        if new_name:
            check_name(kind, new_name)
        if new_path:
            check_path(new_path)

        async def write(tx: Transaction) -> AnyHolder:
            old = await need_holder(tx, kind, account_id, name)
            wanted = new_name or old.name
            if wanted.lower() != old.name.lower():
                if await get_holder(tx, kind, account_id, wanted) is not None:
                    raise AlreadyExistsError(
                        f"{kind.word.capitalize()} with name {wanted} already exists."
                    )
            new = msgspec.structs.replace(old, name=wanted, path=new_path or old.path)
            tx.clear(holder_key(kind, account_id, old.name))
            put_holder(tx, kind, new)
            if wanted != old.name:
                await _rename_references(tx, kind, old, wanted)
            return new

        return await self._context.change(write)

    async def delete_holder(self, kind: Kind, account_id: str, name: str) -> None:
        """Remove a user, group or role that nothing hangs on any more.

        Raises NotFoundError, NotEmptyError.
        """

        async def delete(tx: Transaction) -> None:
            holder = await need_holder(tx, kind, account_id, name)
            if isinstance(holder, User):
                if not await is_empty(tx, account_id, holder.name, letter="x"):
                    raise _conflict("access keys")
                if holder.member_of:
                    raise _conflict("memberships of groups")
            elif isinstance(holder, Group) and not await is_empty(
                tx, account_id, holder.name.lower(), letter="m"
            ):
                raise _conflict("users")
            if holder.attached:
                raise _conflict("attached policies: detach all policies first")
            if holder.inline:
                raise _conflict("inline policies: delete policies first")
            _set_boundary_index(tx, kind, holder, "")
            tx.clear(holder_key(kind, account_id, name))
            count_one_less(tx, account_id, kind.value)

        await self._context.change(delete)

    async def put_inline(
        self, kind: Kind, account_id: str, name: str, policy_name: str, document: str
    ) -> None:
        """Set an inline policy, which was checked. Raises NotFoundError, LimitExceededError,
        InvalidArgumentError."""
        check_policy_name(policy_name)

        def change(old: AnyHolder) -> AnyHolder:
            inline = {**old.inline, policy_name: document}
            longest = INLINE_CHARACTERS_MAX[kind]
            if sum(map(policy_size, inline.values())) > longest:
                raise LimitExceededError(
                    f"Maximum policy size of {longest} bytes exceeded for {kind.word} {name}"
                )
            return msgspec.structs.replace(old, inline=inline)

        await self.update(kind, account_id, name, change)

    async def delete_inline(self, kind: Kind, account_id: str, name: str, policy_name: str) -> None:
        """Raises NotFoundError."""

        def change(old: AnyHolder) -> AnyHolder:
            if policy_name not in old.inline:
                raise NotFoundError(
                    f"The {kind.word} policy with name {policy_name} cannot be found."
                )
            inline = {own: text for own, text in old.inline.items() if own != policy_name}
            return msgspec.structs.replace(old, inline=inline)

        await self.update(kind, account_id, name, change)

    async def attach(self, kind: Kind, account_id: str, name: str, arn: str) -> None:
        """Attach a managed policy; again is no error. Raises NotFoundError, LimitExceededError."""

        async def index(tx: Transaction, old: AnyHolder) -> None:
            await need_policy(tx, arn, account_id)
            tx.set(key("t", arn, "attached", account_id, kind.value, old.name), b"")

        def change(old: AnyHolder) -> AnyHolder:
            if arn in old.attached:
                return old
            if len(old.attached) >= ATTACHED_MAX:
                raise LimitExceededError(
                    f"Cannot exceed quota for PoliciesPer{kind.word.capitalize()}: {ATTACHED_MAX}"
                )
            return msgspec.structs.replace(old, attached=(*old.attached, arn))

        await self.update(kind, account_id, name, change, also=index)

    async def detach(self, kind: Kind, account_id: str, name: str, arn: str) -> None:
        """Raises NotFoundError."""

        async def index(tx: Transaction, old: AnyHolder) -> None:
            tx.clear(key("t", arn, "attached", account_id, kind.value, old.name))

        def change(old: AnyHolder) -> AnyHolder:
            if arn not in old.attached:
                raise NotFoundError(f"Policy {arn} was not found.")
            rest = tuple(one for one in old.attached if one != arn)
            return msgspec.structs.replace(old, attached=rest)

        await self.update(kind, account_id, name, change, also=index)

    async def set_boundary(self, kind: Kind, account_id: str, name: str, arn: str) -> None:
        """Set the permissions boundary of a user or role; empty takes it away. Raises
        NotFoundError."""

        async def index(tx: Transaction, old: AnyHolder) -> None:
            if arn:
                await need_policy(tx, arn, account_id)
            _set_boundary_index(tx, kind, old, arn)

        def change(old: AnyHolder) -> AnyHolder:
            return msgspec.structs.replace(old, boundary=arn)

        await self.update(kind, account_id, name, change, also=index)

    async def set_tags(
        self, kind: Kind, account_id: str, name: str, tags: dict[str, str], remove: list[str]
    ) -> None:
        """Add or replace *tags*, and take away those named in *remove*. Raises NotFoundError,
        InvalidArgumentError."""

        def change(old: AnyHolder) -> AnyHolder:
            new = {own: text for own, text in old.tags.items() if own not in remove} | tags
            check_tags(new)
            return msgspec.structs.replace(old, tags=new)

        await self.update(kind, account_id, name, change)

    async def add_to_group(self, account_id: str, group: str, user: str) -> None:
        """Make a user a member; again is no error. Raises NotFoundError, LimitExceededError."""

        async def write(tx: Transaction) -> None:
            found = await need_holder(tx, Kind.GROUP, account_id, group)
            member = cast(User, await need_holder(tx, Kind.USER, account_id, user))
            if found.name in member.member_of:
                return
            if len(member.member_of) >= GROUPS_OF_USER_MAX:
                raise LimitExceededError(
                    f"Cannot exceed quota for GroupsPerUser: {GROUPS_OF_USER_MAX}"
                )
            new = msgspec.structs.replace(member, member_of=(*member.member_of, found.name))
            put_holder(tx, Kind.USER, new)
            tx.set(key("m", account_id, found.name.lower(), member.name.lower()), b"")

        await self._context.change(write)

    async def remove_from_group(self, account_id: str, group: str, user: str) -> None:
        """Raises NotFoundError."""

        async def write(tx: Transaction) -> None:
            found = await need_holder(tx, Kind.GROUP, account_id, group)
            member = cast(User, await need_holder(tx, Kind.USER, account_id, user))
            if found.name not in member.member_of:
                raise NotFoundError(f"The user {user} is not a member of the group {group}.")
            rest = tuple(name for name in member.member_of if name != found.name)
            put_holder(tx, Kind.USER, msgspec.structs.replace(member, member_of=rest))
            tx.clear(key("m", account_id, found.name.lower(), member.name.lower()))

        await self._context.change(write)

    async def group_members(self, account_id: str, group: str) -> list[User]:
        """In the order of names; at most GROUP_MEMBERS_LISTED_MAX. Raises NotFoundError."""

        async def read(tx: ReadTransaction) -> list[User]:
            found = await need_holder(tx, Kind.GROUP, account_id, group)
            rows = await tx.get_range(
                *span("m", account_id, found.name.lower()), limit=GROUP_MEMBERS_LISTED_MAX
            )
            members = [
                await get_record(tx, holder_key(Kind.USER, account_id, last_name(stored)), User)
                for stored, _ in rows
            ]
            return [member for member in members if member is not None]

        return await self._context.kv.read(read)


def _conflict(what: str) -> NotEmptyError:
    return NotEmptyError(f"Cannot delete entity, must remove {what}.")


def _set_boundary_index(tx: Transaction, kind: Kind, holder: AnyHolder, arn: str) -> None:
    if isinstance(holder, Group):
        return
    names = ("boundary", holder.account_id, kind.value, holder.name)
    if holder.boundary:
        tx.clear(key("t", holder.boundary, *names))
    if arn:
        tx.set(key("t", arn, *names), b"")


async def _rename_references(tx: Transaction, kind: Kind, old: AnyHolder, new_name: str) -> None:
    """Everything that names a holder follows its new name."""
    account_id = old.account_id
    for arn in old.attached:
        tx.clear(key("t", arn, "attached", account_id, kind.value, old.name))
        tx.set(key("t", arn, "attached", account_id, kind.value, new_name), b"")
    if isinstance(old, User):
        if old.boundary:
            tx.clear(key("t", old.boundary, "boundary", account_id, kind.value, old.name))
            tx.set(key("t", old.boundary, "boundary", account_id, kind.value, new_name), b"")
        for group in old.member_of:
            tx.clear(key("m", account_id, group.lower(), old.name.lower()))
            tx.set(key("m", account_id, group.lower(), new_name.lower()), b"")
        for stored, _ in await tx.get_range(*span("x", account_id, old.name)):
            access_key = last_name(stored)
            tx.clear(stored)
            tx.set(key("x", account_id, new_name, access_key), b"")
            record = await get_record(tx, key("k", access_key), AccessKey)
            if record is not None:
                tx.set(key("k", access_key), encode(msgspec.structs.replace(record, user=new_name)))
    elif isinstance(old, Group):
        rows = await tx.get_range(*span("m", account_id, old.name.lower()))
        for stored, _ in rows:
            name = last_name(stored)
            tx.clear(stored)
            tx.set(key("m", account_id, new_name.lower(), name), b"")
            member = await get_record(tx, holder_key(Kind.USER, account_id, name), User)
            if member is not None:
                groups = tuple(new_name if one == old.name else one for one in member.member_of)
                put_holder(tx, Kind.USER, msgspec.structs.replace(member, member_of=groups))
    else:
        raise InvalidArgumentError("A role keeps its name.")
