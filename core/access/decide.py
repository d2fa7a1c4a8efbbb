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
    granted: Named = Named.NOT
    """What else of the resource (its ACL) allows it, and how closely that names who asks."""


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
    named = max(named, policies.granted)
    if not asker.account_id:
        return Effect.ALLOW if named else Effect.NOTHING
    by_itself = (
        (asker.is_account or own is Effect.ALLOW)
        and bound is Effect.ALLOW
        and session is Effect.ALLOW
    )
    if asker.account_id != request.owner_account_id:
        allowed = by_itself and bool(named)
    elif by_itself or named is Named.SESSION:
        allowed = True
    else:
        # What names a user is not cut by its boundary. What names a role is, as the role's own are.
        cut = session is not Effect.ALLOW or (asker.is_session and bound is not Effect.ALLOW)
        allowed = named is Named.ITSELF and not cut
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
