"""PORT: what somebody may do with identities, and which policies may be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...core.identity.records import Identity


class ControlRights(Protocol):
    """Evaluates policies for the IAM and STS APIs."""

    def check_policy(self, document: str) -> None:
        """Check an identity policy. Raises QueryError MalformedPolicyDocument."""
        ...

    def check_trust(self, document: str) -> None:
        """Check a role's trust policy. Raises QueryError MalformedPolicyDocument."""
        ...

    def allows(
        self,
        identity: Identity,
        action: str,
        resource: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether *identity*'s own policies allow *action* on *resource*."""
        ...

    def trusts(
        self,
        trust: str,
        identity: Identity,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether a role whose trust policy is *trust* lets *identity* do *action*. A principal of
        the role's own account that the policy names by its account alone needs its own policies'
        leave as well, as does every principal of another account."""
        ...

    def trusts_provider(
        self,
        trust: str,
        provider_arn: str,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """As ``trusts``, for whom an identity provider vouches for."""
        ...
