"""The machine beside a second, deliberately simple evaluator: one stream of documents and requests,
the same answers."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.access.decide import Policies, Request, decide
from craqen.core.access.patterns import Pattern, matches_glob
from craqen.core.access.policy import Asker, Effect, parse_bucket_policy, parse_identity_policy

OWNER, OTHER = "111111111111", "222222222222"
ASKERS = [
    Asker(OWNER, (f"arn:aws:iam::{OWNER}:root",), is_account=True),
    Asker(OWNER, (f"arn:aws:iam::{OWNER}:user/ann",)),
    Asker(OTHER, (f"arn:aws:iam::{OTHER}:root",), is_account=True),
    Asker(OTHER, (f"arn:aws:iam::{OTHER}:user/eve",)),
    Asker(
        OWNER,
        (f"arn:aws:sts::{OWNER}:assumed-role/worker/s", f"arn:aws:iam::{OWNER}:role/worker"),
    ),
    Asker("", ()),
]
NAMES = ["*", OWNER, OTHER, *(arn for asker in ASKERS for arn in asker.arns)]
ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:ListBucket"]
RESOURCES = ["arn:aws:s3:::b", "arn:aws:s3:::b/a", "arn:aws:s3:::b/a/b", "arn:aws:s3:::b/c"]

PATTERNS = st.sampled_from(["s3:*", "s3:Get*", "s3:?utObject", "*", *ACTIONS, "S3:getobject"])
PLACES = st.sampled_from(
    [*RESOURCES, "*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/a/*", "arn:aws:s3:::b/?", "arn:*:b/*b"]
)
CONDITIONS = st.sampled_from(
    [
        {},
        {"StringEquals": {"s3:prefix": ["x", "y"]}},
        {"StringNotEquals": {"s3:prefix": "x"}},
        {"StringLike": {"s3:prefix": "x*"}, "Bool": {"aws:SecureTransport": "true"}},
        {"Null": {"s3:prefix": "true"}},
    ]
)


def one_or_more(values: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


@st.composite
def statements(draw: st.DrawFn, *, principals: bool) -> dict[str, Any]:
    effect = draw(st.sampled_from(["Allow", "Deny"]))
    statement: dict[str, Any] = {"Effect": effect, "Condition": draw(CONDITIONS)}
    statement[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(
        one_or_more(PATTERNS)
    )
    statement[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(
        one_or_more(PLACES)
    )
    if principals:
        kind = (
            "Principal"
            if effect == "Allow"
            else draw(st.sampled_from(["Principal", "NotPrincipal"]))
        )
        statement[kind] = {"AWS": draw(one_or_more(st.sampled_from(NAMES)))}
    return statement


def documents(*, principals: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(statements(principals=principals), min_size=1, max_size=4)


CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "s3:prefix": st.sampled_from([("x",), ("xy",), ("z",)]),
        "aws:securetransport": st.sampled_from([("true",), ("false",)]),
    },
)


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def glob(text: str, pattern: str) -> bool:
    body = "".join(".*" if one == "*" else "." if one == "?" else re.escape(one) for one in pattern)
    return re.fullmatch(body, text, re.DOTALL) is not None


def naive_condition(conditions: dict[str, Any], context: dict[str, tuple[str, ...]]) -> bool:
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            found = context.get(key.lower())
            match operator:
                case "StringEquals" | "Bool":
                    holds = found is not None and found[0] in as_list(wanted)
                case "StringNotEquals":
                    holds = found is None or found[0] not in as_list(wanted)
                case "StringLike":
                    holds = found is not None and any(
                        glob(found[0], one) for one in as_list(wanted)
                    )
                case _:
                    holds = (found is None) == (wanted == "true")
            if not holds:
                return False
    return True


def naive_names(statement: dict[str, Any], asker: Asker) -> int:
    """0: not meant, 1: its account, 2: itself, 3: the session."""
    if "Principal" not in statement and "NotPrincipal" not in statement:
        return 2
    names = as_list((statement.get("Principal") or statement["NotPrincipal"])["AWS"])
    level = 0
    if asker.account_id:
        accounts = {asker.account_id, f"arn:aws:iam::{asker.account_id}:root"}
        if accounts & set(names):
            level = 2 if asker.is_account else 1
        if "*" not in names and len(asker.arns) == 2 and asker.arns[0] in names:
            level = 3
        elif set(asker.arns) & set(names):
            level = 2
    if "*" in names:
        level = 2
    if "NotPrincipal" in statement:
        return 0 if level >= 2 else 2
    return level


def naive_policy(
    rules: list[dict[str, Any]],
    asker: Asker,
    action: str,
    resource: str,
    context: dict[str, tuple[str, ...]],
) -> tuple[bool, int]:
    """(denied, how closely an allow names who asks)."""
    closest = 0
    for rule in rules:
        actions = as_list(rule.get("Action") or rule.get("NotAction"))
        places = as_list(rule.get("Resource") or rule.get("NotResource"))
        by_action = any(glob(action.lower(), one.lower()) for one in actions)
        by_place = any(glob(resource, one) for one in places)
        named = naive_names(rule, asker)
        if by_action == ("NotAction" in rule) or by_place == ("NotResource" in rule):
            continue
        if not named or not naive_condition(rule["Condition"], context):
            continue
        if rule["Effect"] == "Deny":
            return True, 0
        closest = max(closest, named)
    return False, closest


def naive_decision(
    asker: Asker, on: Any, own: Any, boundary: Any, session: Any, *question: Any
) -> Effect:
    denied, named = (False, 0) if on is None else naive_policy(on, asker, *question)
    sides = []
    for rules in (own, boundary, session):
        if rules is None:
            sides.append((False, 2))
        else:
            sides.append(naive_policy(rules, asker, *question))
    if denied or any(one for one, _ in sides):
        return Effect.DENY
    by_own, by_boundary, by_session = (level > 0 for _, level in sides)
    if not asker.account_id:
        return Effect.ALLOW if named else Effect.NOTHING
    itself = (asker.is_account or by_own) and by_boundary and by_session
    if asker.account_id != OWNER:
        return Effect.ALLOW if named and itself else Effect.NOTHING
    if itself or named == 3:
        return Effect.ALLOW
    cut = by_session and (by_boundary or len(asker.arns) == 1)
    return Effect.ALLOW if named == 2 and cut else Effect.NOTHING


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(ASKERS),
    st.none() | documents(principals=True),
    documents(principals=False),
    st.none() | documents(principals=False),
    st.none() | documents(principals=False),
    st.sampled_from(ACTIONS),
    st.sampled_from(RESOURCES),
    CONTEXTS,
)
def test_the_same_answers(
    asker: Asker,
    on: Any,
    own: Any,
    boundary: Any,
    session: Any,
    action: str,
    resource: str,
    context: dict[str, tuple[str, ...]],
) -> None:
    if not asker.account_id or asker.is_account:
        own, boundary, session = [], None, None
    found = decide(
        Request(asker, action, resource, context.get, OWNER),
        Policies(
            (parse_identity_policy(json.dumps({"Statement": own})),) if own else (),
            None
            if boundary is None
            else parse_identity_policy(json.dumps({"Statement": boundary})),
            None
            if session is None
            else (parse_identity_policy(json.dumps({"Statement": session})),),
            None if on is None else bucket_policy(on),
        ),
    )
    expected = naive_decision(asker, on, own, boundary, session, action, resource, context)
    assert found is expected


def bucket_policy(rules: list[dict[str, Any]]) -> Any:
    return parse_bucket_policy(json.dumps({"Statement": rules}), "b")


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=16))
def test_patterns(pattern: str, text: str) -> None:
    expected = fnmatch.fnmatchcase(text, pattern)
    assert matches_glob(text, pattern) == expected == glob(text, pattern)
    assert Pattern(pattern).matches(text, lambda _: None) == expected


def test_hostile_patterns_cost_nothing_to_speak_of() -> None:
    text = "a" * 30_000
    for pattern in ("*" + "a?" * 5_000 + "b", "*a" * 9_000 + "b", "*" + "a" * 9_000 + "?b*"):
        assert not matches_glob(text, pattern)
