"""From policies to a decision. Pure. Logic: docs.aws.amazon.com/IAM/latest/UserGuide/
reference_policies_evaluation-logic.html: an explicit deny wins; session policies and boundaries
bound what others give; another account needs the leave of both sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .conditions import Context
from .policy import Asker, Effect, Named, Policy


class Request(NamedTuple):
    """What is asked."""

    asker: Asker
    action: str
    resource: str
    context: Context
    owner_account_id: str
    """The account that the resource belongs to."""


class Policies(NamedTuple):
    """What speaks of it."""

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None
    resource: Policy | None = None
    resource_allows: bool = False
    """Whether something else of the resource (its ACL) allows it to who asks."""


def decide(request: Request, policies: Policies) -> Effect:
    """ALLOW, DENY (explicitly) or NOTHING (nobody allowed it)."""
    asker, action, resource, context = request[:4]
    on_resource, named = Effect.NOTHING, Named.NOT
    if policies.resource is not None:
        on_resource, named = policies.resource.effect_on(asker, action, resource, context)
    own = _united(policies.identity, action, resource, context)
    bound = _effect_of(policies.boundary, action, resource, context)
    session = Effect.ALLOW
    if policies.session is not None:
        session = _united(policies.session, action, resource, context)
    if Effect.DENY in (on_resource, own, bound, session):
        return Effect.DENY
    by_resource = policies.resource_allows or on_resource is Effect.ALLOW
    if not asker.account_id:
        return Effect.ALLOW if by_resource else Effect.NOTHING
    by_itself = asker.is_account or (own is Effect.ALLOW and bound is Effect.ALLOW)
    if session is not Effect.ALLOW:
        return Effect.NOTHING
    if asker.account_id == request.owner_account_id:
        allowed = (
            by_itself
            or policies.resource_allows
            or (on_resource is Effect.ALLOW and named is Named.ITSELF)
        )
    else:
        allowed = by_resource and by_itself
    return Effect.ALLOW if allowed else Effect.NOTHING


def _united(policies: Iterable[Policy], action: str, resource: str, context: Context) -> Effect:
    found = Effect.NOTHING
    for policy in policies:
        effect = policy.effect(action, resource, context)
        if effect is Effect.DENY:
            return effect
        if effect is Effect.ALLOW:
            found = effect
    return found


def _effect_of(policy: Policy | None, action: str, resource: str, context: Context) -> Effect:
    return Effect.ALLOW if policy is None else policy.effect(action, resource, context)
