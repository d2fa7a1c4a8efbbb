"""Policy documents, parsed once and asked often. Pure. Grammar: docs.aws.amazon.com/IAM/latest/
UserGuide/reference_policies_grammar.html."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from .conditions import Condition, Context, Values, parse_conditions, variable
from .errors import PolicyError
from .patterns import Pattern, matches_glob

BUCKET_POLICY_BYTES_MAX = 20 * 1024  # AWS's limit
POLICY_CHARACTERS_MAX = 64 * 1024  # of any policy, white space too
STATEMENTS_MAX = 1000
ACTIONS_REMEMBERED_MAX = 256
_VERSIONS = ("2008-10-17", "2012-10-17")
_ELEMENTS = frozenset(
    {
        "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource",
        "NotResource", "Condition",
    }
)  # fmt: skip


class Effect(Enum):
    """What policies say of a request."""

    NOTHING = "nothing"
    ALLOW = "allow"
    DENY = "deny"


class Named(IntEnum):
    """How closely a resource's policy names who asks."""

    NOT = 0
    ACCOUNT = 1
    """By the account alone: what its own policies let it do counts too."""
    ITSELF = 2
    """The user, the role, everybody."""
    SESSION = 3
    """The very session of a role, which neither boundary nor session policies then cut."""


class Asker(NamedTuple):
    """Who asks, as principals of policies name it."""

    account_id: str
    """Empty: nobody, unsigned."""
    arns: Sequence[str]
    """Its own ARN, and for a role's session that of the role behind it."""
    is_account: bool = False
    canonical_id: str = ""
    provider: str = ""
    """ARN of an identity provider that vouches for it."""

    def names(self) -> tuple[str, ...]:
        """All names under which a statement may find it."""
        return (self.account_id, self.canonical_id, self.provider, *self.arns)

    @property
    def is_session(self) -> bool:
        """Whether it is a session of a role."""
        return len(self.arns) > 1

    def named_by(self, principal: Principals) -> Named:
        """How closely *principal* names it."""
        if principal.everyone:
            return Named.ITSELF
        if self.provider and self.provider in principal.federated:
            return Named.ITSELF
        if not self.account_id:
            return Named.NOT
        if self.canonical_id and self.canonical_id in principal.canonical:
            return Named.ITSELF if self.is_account else Named.ACCOUNT
        for place, arn in enumerate(self.arns):
            if arn in principal.arns:
                return Named.SESSION if place == 0 and self.is_session else Named.ITSELF
        if self.account_id in principal.accounts:
            return Named.ITSELF if self.is_account else Named.ACCOUNT
        return Named.NOT


class Principals(NamedTuple):
    """The principals of a statement."""

    everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    canonical: frozenset[str]
    federated: frozenset[str]
    services: frozenset[str]

    def names(self) -> frozenset[str]:
        """All who are named, everyone apart."""
        return self.accounts | self.arns | self.canonical | self.federated


class Statement(NamedTuple):
    """One statement."""

    effect: Effect
    principals: Principals | None
    principals_negated: bool
    actions: tuple[str, ...]
    """In lower case."""
    actions_negated: bool
    resources: tuple[Pattern, ...]
    resources_negated: bool
    conditions: tuple[Condition, ...]

    def covers_action(self, action: str) -> bool:
        """*action* in lower case."""
        return any(matches_glob(action, one) for one in self.actions) != self.actions_negated

    def asks_for(self, prefix: str) -> bool:
        """Whether it looks at a condition key, or fills in a variable, that begins with *prefix*
        (lower case)."""
        variable_start = "${" + prefix
        texts = [pattern.text for pattern in self.resources]
        for condition in self.conditions:
            if condition.key.startswith(prefix):
                return True
            texts += condition.values
        return any(variable_start in text.lower() for text in texts)

    def covers(self, resource: str, context: Context) -> bool:
        """Whether resource and conditions are those of the request."""
        if self.resources:
            for pattern in self.resources:
                if pattern.matches(resource, lambda name: variable(name, context)):
                    if self.resources_negated:
                        return False
                    break
            else:
                if not self.resources_negated:
                    return False
        for condition in self.conditions:
            if not condition.holds(context):
                return False
        return True


class _Row(NamedTuple):
    """A statement, behind how a resource must begin and end for it to matter; None: anyhow."""

    starts: tuple[str, ...] | None
    ends: tuple[str, ...] | None
    statement: Statement


def _row(statement: Statement) -> _Row:
    if not statement.resources or statement.resources_negated:
        return _Row(None, None, statement)
    ends: tuple[str, ...] | None = tuple(pattern.ends for pattern in statement.resources)
    return _Row(
        tuple(pattern.begins for pattern in statement.resources),
        None if ends is None or "" in ends else ends,
        statement,
    )


def _merged(statements: Sequence[Statement]) -> list[Statement]:
    """*statements* about one action, with those made one that differ in the values of their only
    condition: what any of them says, it says."""
    found: dict[object, Statement] = {}
    for number, statement in enumerate(statements):
        kind: object = number
        if len(statement.conditions) == 1 and statement.conditions[0].can_merge:
            condition = statement.conditions[0]
            kind = (
                statement.effect,
                statement.principals,
                statement.principals_negated,
                tuple(pattern.text for pattern in statement.resources),
                statement.resources_negated,
                condition.key,
                condition.operator,
            )
        known = found.get(kind)
        if known is not None:
            together = known.conditions[0].merged(statement.conditions[0])
            statement = known._replace(conditions=(together,))
        found[kind] = statement
    return list(found.values())


class _Rows:
    """The statements of a policy that are about one action, by whom they name."""

    __slots__ = ("_by_name", "_for_all")

    def __init__(self, statements: Sequence[Statement]) -> None:
        self._for_all: list[_Row] = []
        self._by_name: dict[str, list[_Row]] = {}
        for statement in _merged(statements):
            row, principals = _row(statement), statement.principals
            if principals is None or principals.everyone or statement.principals_negated:
                self._for_all.append(row)
                continue
            for name in principals.names():
                self._by_name.setdefault(name, []).append(row)

    def about(self, resource: str, asker: Asker | None) -> list[Statement]:
        """Statements that may cover *resource* and name *asker*; some perhaps twice."""
        begins, finishes = resource.startswith, resource.endswith
        found = [
            one
            for starts, ends, one in self._for_all
            if (starts is None or begins(starts)) and (ends is None or finishes(ends))
        ]
        if asker is not None and self._by_name:
            for name in asker.names():
                for starts, ends, one in self._by_name.get(name, ()):
                    if (starts is None or begins(starts)) and (ends is None or finishes(ends)):
                        found.append(one)
        return found


class Policy:
    """A document. Immutable but for what it remembers of actions that were asked before."""

    __slots__ = ("_asks", "_rows", "statements")

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        self._rows: dict[str, _Rows] = {}
        self._asks: dict[tuple[str, str], bool] = {}

    def effect(self, action: str, resource: str, context: Context) -> Effect:
        """What an identity's policy says; its statements have no principals."""
        found = Effect.NOTHING
        context = _remembering(context)
        for statement in self._candidates(action, resource, None):
            if statement.effect is Effect.ALLOW and found is Effect.ALLOW:
                continue
            if statement.covers(resource, context):
                if statement.effect is Effect.DENY:
                    return Effect.DENY
                found = Effect.ALLOW
        return found

    def effect_on(
        self, asker: Asker, action: str, resource: str, context: Context
    ) -> tuple[Effect, Named]:
        """What a resource's policy says of *asker*, and how closely the statement that allows it
        names it."""
        closest = Named.NOT
        context = _remembering(context)
        for statement in self._candidates(action, resource, asker):
            named = _named(statement, asker)
            if named is Named.NOT or (statement.effect is Effect.ALLOW and named <= closest):
                continue
            if statement.covers(resource, context):
                if statement.effect is Effect.DENY:
                    return Effect.DENY, named
                closest = named
        return (Effect.NOTHING if closest is Named.NOT else Effect.ALLOW), closest

    def denials(self) -> Policy:
        """What the policy denies, and nothing that it allows."""
        return Policy(tuple(one for one in self.statements if one.effect is Effect.DENY))

    def asks_for(self, action: str, prefix: str) -> bool:
        """Whether statements about *action* look at a condition key, or fill in a variable, that
        begins with *prefix* (lower case)."""
        key = (action, prefix)
        found = self._asks.get(key)
        if found is None:
            lowered = action.lower()
            found = any(
                one.asks_for(prefix) for one in self.statements if one.covers_action(lowered)
            )
            if len(self._asks) < ACTIONS_REMEMBERED_MAX:
                self._asks[key] = found
        return found

    def _candidates(self, action: str, resource: str, asker: Asker | None) -> list[Statement]:
        """Statements that may cover the request. With a hundred of them, this is what costs."""
        rows = self._rows.get(action)
        if rows is None:
            lowered = action.lower()
            rows = _Rows([one for one in self.statements if one.covers_action(lowered)])
            if len(self._rows) < ACTIONS_REMEMBERED_MAX:
                self._rows[action] = rows
        return rows.about(resource, asker)


def _remembering(context: Context) -> Context:
    """*context*, asked once for each key."""
    known: dict[str, Values | None] = {}

    def lookup(key: str) -> Values | None:
        if key in known:
            return known[key]
        value = known[key] = context(key)
        return value

    return lookup


def _named(statement: Statement, asker: Asker) -> Named:
    principals = statement.principals
    if principals is None:
        return Named.ITSELF
    named = asker.named_by(principals)
    if statement.principals_negated:
        # Who is exempt is named itself: its account alone does not do.
        return Named.ITSELF if named < Named.ITSELF else Named.NOT
    return named


@lru_cache(maxsize=4096)
def parse_identity_policy(text: str) -> Policy:
    """A policy of a user, group, role or session. Raises PolicyError."""
    return _parse(text, principals=False, resources=True)


@lru_cache(maxsize=1024)
def parse_trust_policy(text: str) -> Policy:
    """A policy that says who may assume a role. Raises PolicyError."""
    return _parse(text, principals=True, resources=False)


@lru_cache(maxsize=4096)
def identity_policy(text: str) -> Policy:
    """As ``parse_identity_policy``, for a stored one: if it cannot be read, nobody knows what it
    forbids, and all is denied."""
    try:
        return _parse(text, principals=False, resources=True, may_be_empty=True)
    except PolicyError:
        return parse_identity_policy(_DENIES_ALL)


_DENIES_ALL = '{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}'


def parse_bucket_policy(text: str, bucket: str) -> Policy:
    """The policy of *bucket*: all its resources are in that bucket, its actions are those of S3.
    Raises PolicyError."""
    policy = _parse(text, principals=True, resources=True)
    arn = f"arn:aws:s3:::{bucket}"
    for statement in policy.statements:
        for action in statement.actions:
            if not action.startswith("s3:") and action != "*":
                raise PolicyError("Policy has invalid action")
        for pattern in statement.resources:
            if not _is_in_bucket(pattern.text, arn):
                raise PolicyError("Policy has invalid resource")
    return policy


def _is_in_bucket(resource: str, arn: str) -> bool:
    if resource == "*" or resource == arn or resource.startswith(f"{arn}/"):
        return True
    fixed = resource
    for special in "*?$":
        fixed = fixed.split(special, 1)[0]
    return fixed != resource and (arn.startswith(fixed) or fixed.startswith(arn))


def _parse(text: str, *, principals: bool, resources: bool, may_be_empty: bool = False) -> Policy:
    if len(text) > POLICY_CHARACTERS_MAX:
        raise PolicyError(f"The policy has more than {POLICY_CHARACTERS_MAX} characters")
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PolicyError("This policy contains invalid Json") from error
    if not isinstance(document, dict):
        raise PolicyError("Policies must be JSON objects")
    unknown = document.keys() - {"Version", "Id", "Statement"}
    if unknown:
        raise PolicyError(f"Unknown field {sorted(unknown)[0]}")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise PolicyError("The policy must contain a valid version string")
    statements = document.get("Statement")
    found = statements if isinstance(statements, list) else [statements]
    if statements is None or len(found) > STATEMENTS_MAX or not (found or may_be_empty):
        raise PolicyError("Missing required field Statement")
    return Policy(
        tuple(_statement(one, principals=principals, resources=resources) for one in found)
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose names are there once: two readers must not see two policies in one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PolicyError(f"The element {twice[:100]} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value")


def _statement(element: Any, *, principals: bool, resources: bool) -> Statement:
    if not isinstance(element, dict):
        raise PolicyError("Statement must be an object")
    unknown = element.keys() - _ELEMENTS
    if unknown:
        raise PolicyError(f"Unknown field {sorted(unknown)[0]}")
    if not isinstance(element.get("Sid", ""), str):
        raise PolicyError("Sid must be a text")
    effect = {"Allow": Effect.ALLOW, "Deny": Effect.DENY}.get(str(element.get("Effect")))
    if effect is None:
        raise PolicyError(f"Invalid effect: {element.get('Effect')}")
    who, who_negated = _either(element, "Principal", needed=principals, allowed=principals)
    if who_negated and effect is Effect.ALLOW:
        raise PolicyError("NotPrincipal is for Effect Deny alone")
    actions, actions_negated = _either(element, "Action", needed=True, allowed=True)
    what, what_negated = _either(element, "Resource", needed=resources, allowed=resources)
    action_texts = tuple(one.lower() for one in _strings(actions, "Action"))
    for action in action_texts:
        if action != "*" and ":" not in action:
            raise PolicyError(f"Policy has invalid action {action}")
    patterns = () if what is None else tuple(Pattern(one) for one in _strings(what, "Resource"))
    for pattern in patterns:
        if pattern.text != "*" and not pattern.text.startswith(("arn:", "*", "${")):
            raise PolicyError(f"Policy has invalid resource {pattern.text}")
    return Statement(
        effect,
        None if who is None else _principals(who),
        who_negated,
        action_texts,
        actions_negated,
        patterns,
        what_negated,
        parse_conditions(element.get("Condition", {})),
    )


def _either(element: dict[str, Any], name: str, *, needed: bool, allowed: bool) -> tuple[Any, bool]:
    """The element *name*, or that of the opposite, and whether it is that."""
    both = [key for key in (name, f"Not{name}") if key in element]
    if len(both) > 1:
        raise PolicyError(f"{both[0]} and {both[1]} exclude each other")
    if not both:
        if needed:
            raise PolicyError(f"Missing required field {name}")
        return None, False
    if not allowed:
        raise PolicyError(f"Unsupported field {both[0]}")
    return element[both[0]], both[0] != name


def _strings(value: Any, name: str) -> list[str]:
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(one, str) and one for one in found):
        raise PolicyError(f"{name} must be texts")
    return found


def _principals(value: Any) -> Principals:
    everyone = False
    accounts: set[str] = set()
    arns: set[str] = set()
    others: dict[str, set[str]] = {"CanonicalUser": set(), "Federated": set(), "Service": set()}
    if value == "*":
        everyone = True
    elif isinstance(value, dict) and value:
        for kind, names in value.items():
            for name in _strings(names, "Principal"):
                if kind == "AWS":
                    everyone |= name == "*"
                    _add_principal(name, accounts, arns)
                elif kind in others:
                    others[kind].add(name)
                else:
                    raise PolicyError(f"Invalid principal in policy: {kind}")
    else:
        raise PolicyError("Invalid principal in policy")
    return Principals(
        everyone,
        frozenset(accounts),
        frozenset(arns),
        frozenset(others["CanonicalUser"]),
        frozenset(others["Federated"]),
        frozenset(others["Service"]),
    )


def _add_principal(name: str, accounts: set[str], arns: set[str]) -> None:
    if name == "*":
        return
    if name.isascii() and name.isdigit() and len(name) == 12:
        accounts.add(name)
    elif name.startswith("arn:aws:iam::") and name.endswith(":root"):
        accounts.add(name[len("arn:aws:iam::") : -len(":root")])
    elif name.startswith(("arn:aws:iam::", "arn:aws:sts::")):
        arns.add(name)
    else:
        raise PolicyError(f"Invalid principal in policy: {name}")
