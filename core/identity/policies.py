"""Managed policies and OIDC providers in the KV."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LimitExceededError,
    NotEmptyError,
    NotFoundError,
)
from ..kv.store import ReadTransaction, Transaction
from .builtin import BUILTIN_POLICIES
from .context import (
    Context,
    count_one_less,
    count_one_more,
    get_record,
    is_empty,
    need_account,
    page,
)
from .names import (
    AWS_ACCOUNT,
    MANAGED_CHARACTERS_MAX,
    POLICIES_MAX,
    POLICY_VERSIONS_MAX,
    check_path,
    check_policy_name,
    check_tags,
    new_policy_id,
    policy_arn,
    policy_size,
    split_arn,
)
from .records import ManagedPolicy, OidcProvider, PolicyVersion
from .schema import Kind, encode, key, names_of, span

ATTACHMENTS_LISTED_MAX = 10_000
PROVIDERS_LISTED_MAX = 100  # AWS allows an account no more


class Policies:
    """Policies with names of their own, and who has them; trusted issuers of tokens."""

    _context: Context

    async def create_policy(
        self,
        account_id: str,
        name: str,
        document: str,
        *,
        path: str = "/",
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> ManagedPolicy:
        """Make a policy of *document*, which was checked. Raises NotFoundError (account),
        AlreadyExistsError, LimitExceededError, InvalidArgumentError."""
        check_policy_name(name)
        check_path(path)
        check_tags(tags or {})
        _check_size(document)
        now_ns = self._context.clock.wall_ns()

        async def create(tx: Transaction) -> ManagedPolicy:
            await need_account(tx, account_id)
            if await tx.get(key("p", account_id, name.lower())) is not None:
                raise AlreadyExistsError(f"A policy called {name} already exists.")
            await count_one_more(tx, account_id, "p", POLICIES_MAX, "Policies")
            versions = (PolicyVersion("v1", document, now_ns),)
            policy = ManagedPolicy(
                account_id,
                name,
                path,
                new_policy_id(),
                now_ns,
                now_ns,
                versions,
                "v1",
                1,
                description,
                tags or {},
            )
            _put_policy(tx, policy)
            return policy

        return await self._context.change(create)

    async def get_policy(self, arn: str, account_id: str) -> ManagedPolicy:
        """A policy that *account_id* can use. Raises NotFoundError, InvalidArgumentError."""
        return await self._context.kv.read(lambda tx: need_policy(tx, arn, account_id))

    async def list_policies(
        self, account_id: str, *, path_prefix: str = "/", after: bytes = b"", limit: int
    ) -> tuple[list[ManagedPolicy], bytes]:
        """A page of the account's own policies, and what to give as *after* for the next."""

        async def read(tx: ReadTransaction) -> tuple[list[ManagedPolicy], bytes]:
            return await page(
                tx,
                span("p", account_id),
                ManagedPolicy,
                after=after,
                limit=limit,
                wanted=lambda one: one.path.startswith(path_prefix),
            )

        return await self._context.kv.read(read)

    async def delete_policy(self, arn: str, account_id: str) -> None:
        """Remove a policy that is attached to nobody and has no version but the default.

        Raises NotFoundError, NotEmptyError, InvalidArgumentError.
        """

        async def delete(tx: Transaction) -> None:
            policy = await _own_policy(tx, arn, account_id)
            if not await is_empty(tx, arn, letter="t"):
                raise NotEmptyError("Cannot delete a policy attached to entities.")
            if len(policy.versions) > 1:
                raise NotEmptyError(
                    "This policy has more than one version. Before you delete a policy, you must "
                    "delete the policy's versions. The default version is deleted with the policy."
                )
            tx.clear(key("p", account_id, policy.name.lower()))
            count_one_less(tx, account_id, "p")

        await self._context.change(delete)

    async def create_policy_version(
        self, arn: str, account_id: str, document: str, *, as_default: bool
    ) -> PolicyVersion:
        """Raises NotFoundError, LimitExceededError, InvalidArgumentError."""
        _check_size(document)
        now_ns = self._context.clock.wall_ns()

        def change(old: ManagedPolicy) -> ManagedPolicy:
            if len(old.versions) >= POLICY_VERSIONS_MAX:
                raise LimitExceededError(
                    f"A managed policy can have up to {POLICY_VERSIONS_MAX} versions. Before you "
                    f"create a new version, you must delete an existing version."
                )
            number = old.last_version + 1
            version = PolicyVersion(f"v{number}", document, now_ns)
            return msgspec.structs.replace(
                old,
                versions=(*old.versions, version),
                last_version=number,
                default_version=version.version_id if as_default else old.default_version,
                updated_ns=now_ns,
            )

        return (await self._change_policy(arn, account_id, change)).versions[-1]

    async def set_default_version(self, arn: str, account_id: str, version_id: str) -> None:
        """Raises NotFoundError, InvalidArgumentError."""

        def change(old: ManagedPolicy) -> ManagedPolicy:
            find_version(old, version_id)
            return msgspec.structs.replace(
                old, default_version=version_id, updated_ns=self._context.clock.wall_ns()
            )

        await self._change_policy(arn, account_id, change)

    async def delete_policy_version(self, arn: str, account_id: str, version_id: str) -> None:
        """Raises NotFoundError, NotEmptyError (the default), InvalidArgumentError."""

        def change(old: ManagedPolicy) -> ManagedPolicy:
            find_version(old, version_id)
            if version_id == old.default_version:
                raise NotEmptyError("Cannot delete the default version of a policy.")
            rest = tuple(one for one in old.versions if one.version_id != version_id)
            return msgspec.structs.replace(old, versions=rest)

        await self._change_policy(arn, account_id, change)

    async def set_policy_tags(
        self, arn: str, account_id: str, tags: dict[str, str], remove: list[str]
    ) -> None:
        """Raises NotFoundError, InvalidArgumentError."""

        def change(old: ManagedPolicy) -> ManagedPolicy:
            new = {name: text for name, text in old.tags.items() if name not in remove} | tags
            check_tags(new)
            return msgspec.structs.replace(old, tags=new)

        await self._change_policy(arn, account_id, change)

    async def _change_policy(
        self, arn: str, account_id: str, change: Callable[[ManagedPolicy], ManagedPolicy]
    ) -> ManagedPolicy:
        async def write(tx: Transaction) -> ManagedPolicy:
            new = change(await _own_policy(tx, arn, account_id))
            _put_policy(tx, new)
            return new

        return await self._context.change(write)

    async def attachments(
        self, arn: str, account_id: str, usage: str = "attached"
    ) -> list[tuple[Kind, str]]:
        """Who of the account has the policy, as (kind, name); *usage* ``boundary``: whom it
        bounds."""

        async def read(tx: ReadTransaction) -> list[tuple[Kind, str]]:
            rows = await tx.get_range(
                *span("t", arn, usage, account_id), limit=ATTACHMENTS_LISTED_MAX
            )
            found = [names_of(stored) for stored, _ in rows]
            return [(Kind(names[3]), names[4]) for names in found]

        return await self._context.kv.read(read)

    async def create_provider(self, provider: OidcProvider) -> None:
        """Trust an issuer. Raises AlreadyExistsError, LimitExceededError, NotFoundError."""
        check_tags(provider.tags)

        async def create(tx: Transaction) -> None:
            account_id = provider.account_id
            await need_account(tx, account_id)
            stored = key("o", account_id, provider.url)
            if await tx.get(stored) is not None:
                raise AlreadyExistsError(
                    f"Provider with url https://{provider.url} already exists."
                )
            if len(await tx.get_range(*span("o", account_id))) >= PROVIDERS_LISTED_MAX:
                raise LimitExceededError(
                    f"Cannot exceed quota for OpenIdConnectProvidersPerAccount: "
                    f"{PROVIDERS_LISTED_MAX}"
                )
            tx.set(stored, encode(provider))

        await self._context.change(create)

    async def get_provider(self, account_id: str, url: str) -> OidcProvider:
        """Raises NotFoundError."""
        return await self._context.kv.read(lambda tx: _need_provider(tx, account_id, url))

    async def list_providers(self, account_id: str) -> list[OidcProvider]:
        """All issuers that the account trusts."""

        async def read(tx: ReadTransaction) -> list[OidcProvider]:
            found, _ = await page(
                tx,
                span("o", account_id),
                OidcProvider,
                after=b"",
                limit=PROVIDERS_LISTED_MAX,
            )
            return found

        return await self._context.kv.read(read)

    async def update_provider(
        self, account_id: str, url: str, change: Callable[[OidcProvider], OidcProvider]
    ) -> None:
        """Raises NotFoundError, InvalidArgumentError, and what *change* does."""

        async def write(tx: Transaction) -> None:
            new = change(await _need_provider(tx, account_id, url))
            check_tags(new.tags)
            tx.set(key("o", account_id, url), encode(new))

        await self._context.change(write)

    async def delete_provider(self, account_id: str, url: str) -> None:
        """Raises NotFoundError."""

        async def delete(tx: Transaction) -> None:
            await _need_provider(tx, account_id, url)
            tx.clear(key("o", account_id, url))

        await self._context.change(delete)


async def need_policy(tx: ReadTransaction, arn: str, account_id: str) -> ManagedPolicy:
    """A policy of the account, or one that every store has. Raises NotFoundError,
    InvalidArgumentError."""
    owner, rest = split_arn(arn, "policy")
    policy = BUILTIN_POLICIES.get(arn)
    if policy is None and owner == account_id:
        name = rest.rpartition("/")[2]
        policy = await get_record(tx, key("p", account_id, name.lower()), ManagedPolicy)
    if policy is None or policy_arn(policy) != arn:
        raise NotFoundError(f"Policy {arn} does not exist or is not attachable.")
    return policy


def find_version(policy: ManagedPolicy, version_id: str) -> PolicyVersion:
    """Raises NotFoundError."""
    for version in policy.versions:
        if version.version_id == version_id:
            return version
    raise NotFoundError(
        f"Policy {policy_arn(policy)} version {version_id} does not exist or is not attachable."
    )


async def _own_policy(tx: ReadTransaction, arn: str, account_id: str) -> ManagedPolicy:
    policy = await need_policy(tx, arn, account_id)
    if policy.account_id == AWS_ACCOUNT:
        raise InvalidArgumentError(f"Policy {arn} comes with the store and cannot be changed.")
    return policy


async def _need_provider(tx: ReadTransaction, account_id: str, url: str) -> OidcProvider:
    provider = await get_record(tx, key("o", account_id, url), OidcProvider)
    if provider is None:
        raise NotFoundError(
            f"OpenIDConnect Provider not found for arn "
            f"arn:aws:iam::{account_id}:oidc-provider/{url}"
        )
    return provider


def _check_size(document: str) -> None:
    if policy_size(document) > MANAGED_CHARACTERS_MAX:
        raise LimitExceededError(f"Cannot exceed quota for PolicySize: {MANAGED_CHARACTERS_MAX}")


def _put_policy(tx: Transaction, policy: ManagedPolicy) -> None:
    tx.set(key("p", policy.account_id, policy.name.lower()), encode(policy))
