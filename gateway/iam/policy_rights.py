"""Rights on identities by policies: what users and roles may do with IAM, and who may assume a
role."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.access.conditions import Context, Values
from ...core.access.decide import Request, decide
from ...core.access.errors import PolicyError
from ...core.access.policy import (
    Asker,
    Effect,
    Named,
    parse_identity_policy,
    parse_trust_policy,
)
from ...core.identity.records import Identity
from ..access.authorizer import asker_of, own_policies
from ..access.context import identity_value
from .query import QueryError


class PolicyRights:
    """``ControlRights`` by policies."""

    def check_policy(self, document: str) -> None:
        """Raises QueryError MalformedPolicyDocument."""
        try:
            parse_identity_policy(document)
        except PolicyError as error:
            raise QueryError("MalformedPolicyDocument", str(error)) from error

    def check_trust(self, document: str) -> None:
        """Raises QueryError MalformedPolicyDocument."""
        try:
            parse_trust_policy(document)
        except PolicyError as error:
            raise QueryError("MalformedPolicyDocument", str(error)) from error

    def allows(
        self,
        identity: Identity,
        action: str,
        resource: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether the identity's own policies allow it; an account may do everything."""
        request = Request(
            asker_of(identity), action, resource, _context(identity, context), identity.account_id
        )
        return decide(request, own_policies(identity)) is Effect.ALLOW

    def trusts(
        self,
        trust: str,
        identity: Identity,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether the trust policy, and where it takes them the identity's own, let it."""
        given = _context(identity, context)
        policy = parse_trust_policy(trust)
        effect, named = policy.effect_on(asker_of(identity), action, role_arn, given)
        if effect is not Effect.ALLOW:
            return False
        own = self.allows(identity, action, role_arn, context)
        if _account_of(role_arn) == identity.account_id and named is Named.ITSELF:
            return own or not self._denies(identity, action, role_arn, given)
        return own

    def _denies(self, identity: Identity, action: str, role_arn: str, context: Context) -> bool:
        request = Request(asker_of(identity), action, role_arn, context, identity.account_id)
        return decide(request, own_policies(identity)) is Effect.DENY

    def trusts_provider(
        self,
        trust: str,
        provider_arn: str,
        action: str,
        role_arn: str,
        context: Mapping[str, tuple[str, ...]],
    ) -> bool:
        """Whether the trust policy names the provider, and its conditions hold for the token."""
        asker = Asker("", (), provider=provider_arn)
        lowered = {key.lower(): values for key, values in context.items()}
        effect, _ = parse_trust_policy(trust).effect_on(asker, action, role_arn, lowered.get)
        return effect is Effect.ALLOW


def _account_of(arn: str) -> str:
    return arn.split(":")[4]


def _context(identity: Identity, given: Mapping[str, tuple[str, ...]]) -> Context:
    lowered = {key.lower(): values for key, values in given.items()}

    def lookup(key: str) -> Values | None:
        found = lowered.get(key)
        return identity_value(identity, key) if found is None else found

    return lookup
