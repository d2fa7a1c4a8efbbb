"""The rights of a store whose policies are kept but not evaluated: accounts may do everything with
their own identities, and nobody else anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...core.identity.records import Identity, Principal
from .query import QueryError


class AccountRights:
    """``ControlRights`` without policies."""

    def check_policy(self, document: str) -> None:
        """Raises QueryError MalformedPolicyDocument for what is no JSON object with statements."""
        try:
            parsed = msgspec.json.decode(document, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _malformed("Syntax errors in policy.") from error
        if not isinstance(parsed.get("Statement"), dict | list) or not parsed["Statement"]:
            raise _malformed("Syntax errors in policy: there is no Statement.")

    def check_trust(self, document: str) -> None:
        """Raises QueryError MalformedPolicyDocument."""
        self.check_policy(document)

    def allows(
        self,
        identity: Identity,
        action: str,
        resource: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether *identity* is the account itself."""
        return identity.principal is Principal.ACCOUNT

    def trusts(
        self,
        trust: str,
        identity: Identity,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether *identity* is the role's own account."""
        account_id = role_arn.split(":")[4]
        return identity.principal is Principal.ACCOUNT and identity.account_id == account_id

    def trusts_provider(
        self,
        trust: str,
        provider_arn: str,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Nobody: conditions on claims cannot be checked."""
        return False


def _malformed(message: str) -> QueryError:
    return QueryError("MalformedPolicyDocument", message)
