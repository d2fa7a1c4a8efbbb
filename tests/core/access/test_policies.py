"""The policy language: what matches, who is named, who wins, and what is no policy."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craqen.core.access.decide import Policies, Request, decide
from craqen.core.access.errors import PolicyError
from craqen.core.access.patterns import Pattern, matches_glob
from craqen.core.access.policy import (
    Asker,
    Effect,
    Policy,
    identity_policy,
    parse_bucket_policy,
    parse_identity_policy,
    parse_trust_policy,
)

ANN = Asker("111111111111", ("arn:aws:iam::111111111111:user/ann",))
ROOT = Asker("111111111111", ("arn:aws:iam::111111111111:root",), is_account=True)
STRANGER = Asker("222222222222", ("arn:aws:iam::222222222222:user/eve",))
NOBODY = Asker("", ())
OBJECT = "arn:aws:s3:::b/folder/k"


def nothing_known(key: str) -> None:
    """The context of a request that says nothing."""


def policy(*statements: dict[str, Any]) -> Policy:
    return parse_identity_policy(json.dumps({"Statement": list(statements)}))


def bucket_policy(*statements: dict[str, Any]) -> Policy:
    return parse_bucket_policy(json.dumps({"Statement": list(statements)}), "b")


def allow(action: str = "s3:GetObject", resource: str = "arn:aws:s3:::b/*", **more: Any) -> Any:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: str = "s3:*", resource: str = "arn:aws:s3:::b/*", **more: Any) -> Any:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def answer(
    asker: Asker = ANN,
    action: str = "s3:GetObject",
    resource: str = OBJECT,
    context: Mapping[str, tuple[str, ...]] | None = None,
    owner: str = "111111111111",
    on: Policy | None = None,
    **policies: Any,
) -> Effect:
    known = context or {}
    request = Request(asker, action, resource, known.get, owner)
    return decide(request, Policies(resource=on, **policies))


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_wildcards(pattern: str, text: str) -> None:
    assert matches_glob(text, pattern) == fnmatch.fnmatchcase(text, pattern)
    assert Pattern(pattern).matches(text, lambda _: None) == matches_glob(text, pattern)


def test_wildcards_take_no_time_to_speak_of() -> None:
    assert not matches_glob("a" * 1000 + "b", "*a" * 100 + "c")


@given(st.text(max_size=10), st.text(max_size=10))
def test_a_variable_is_taken_as_it_stands(name: str, other: str) -> None:
    pattern = Pattern("home/${aws:username}/*")
    assert pattern.matches(f"home/{name}/x", lambda _: name)
    assert pattern.matches(f"home/{other}/x", lambda _: name) == (
        f"home/{other}/x".startswith(f"home/{name}/")
    )
    assert not pattern.matches("home//x", lambda _: None)


def test_who_wins() -> None:
    yes, no = policy(allow()), policy(deny())
    assert answer(identity=(yes,)) is Effect.ALLOW
    assert answer(identity=(yes, no)) is Effect.DENY
    assert answer() is Effect.NOTHING
    assert answer(ROOT) is Effect.ALLOW
    assert answer(ROOT, on=bucket_policy(deny(Principal="*"))) is Effect.DENY
    assert answer(identity=(yes,), boundary=policy(allow("s3:PutObject"))) is Effect.NOTHING
    assert answer(identity=(yes,), boundary=yes) is Effect.ALLOW
    assert answer(identity=(yes,), session=()) is Effect.NOTHING
    assert answer(identity=(yes,), session=(yes,)) is Effect.ALLOW
    assert answer(identity=(yes,), session=(yes, no)) is Effect.DENY


@pytest.mark.parametrize(
    ("principal", "asker", "alone", "with_own"),
    [
        ("*", ANN, True, True),
        ({"AWS": "*"}, STRANGER, False, True),
        ({"AWS": ANN.arns[0]}, ANN, True, True),
        ({"AWS": ROOT.arns[0]}, ANN, False, True),
        ({"AWS": "111111111111"}, ROOT, True, True),
        ({"AWS": STRANGER.arns[0]}, STRANGER, False, True),
        ({"AWS": STRANGER.arns[0]}, ANN, False, True),
        ("*", NOBODY, True, True),
        ({"AWS": "111111111111"}, NOBODY, False, False),
    ],
)
def test_principals(principal: Any, asker: Asker, alone: bool, with_own: bool) -> None:
    resource = bucket_policy(allow(Principal=principal))
    assert (answer(asker, on=resource) is Effect.ALLOW) == alone
    own = () if asker is NOBODY else (policy(allow()),)
    assert (answer(asker, on=resource, identity=own) is Effect.ALLOW) == with_own


def test_the_opposites() -> None:
    others = bucket_policy({**deny(), "NotPrincipal": {"AWS": ANN.arns[0]}})
    own = (policy(allow("s3:*")),)
    assert answer(identity=own, on=others) is Effect.ALLOW
    assert answer(STRANGER, identity=own, on=others) is Effect.DENY
    but = policy({"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "*/secret/*"})
    assert answer(identity=(but,)) is Effect.ALLOW
    assert answer(identity=(but,), action="s3:DeleteObject") is Effect.NOTHING
    assert answer(identity=(but,), resource="arn:aws:s3:::b/secret/k") is Effect.NOTHING


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "holds"),
    [
        ("StringEquals", "a", ("a",), True),
        ("StringEquals", "a", ("A",), False),
        ("StringEqualsIgnoreCase", "a", ("A",), True),
        ("StringNotEquals", "a", ("b",), True),
        ("StringNotEquals", "a", None, True),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringLike", "a*c", ("abc",), True),
        ("StringNotLike", ["x*", "a*"], ("abc",), False),
        ("NumericLessThan", "10", ("9",), True),
        ("NumericLessThanEquals", 10, ("x",), False),
        ("DateGreaterThan", "2020-01-01T00:00:00Z", ("2021-01-01T00:00:00Z",), True),
        ("Bool", "true", ("true",), True),
        ("Bool", False, ("true",), False),
        ("BinaryEquals", "YQ==", ("YQ==",), True),
        ("IpAddress", "10.0.0.0/8", ("10.1.2.3",), True),
        ("IpAddress", "10.0.0.0/8", ("::ffff:10.1.2.3",), True),
        ("NotIpAddress", ["10.0.0.0/8", "192.168.0.1"], ("192.168.0.1",), False),
        ("IpAddress", "2001:db8::/32", ("10.0.0.1",), False),
        ("ArnLike", "arn:aws:s3:::b*", ("arn:aws:s3:::bucket",), True),
        ("Null", "true", None, True),
        ("Null", "true", ("x",), False),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "c"), False),
        ("ForAllValues:StringEquals", "a", None, True),
        ("ForAnyValue:StringEquals", ["a", "b"], ("c", "b"), True),
        ("ForAnyValue:StringEquals", "a", None, False),
    ],
)
def test_conditions(operator: str, wanted: Any, found: Any, holds: bool) -> None:
    one = policy(allow(Condition={operator: {"s3:Key": wanted}}))
    context = {} if found is None else {"s3:key": found}
    assert (answer(identity=(one,), context=context) is Effect.ALLOW) == holds


def test_variables_in_conditions() -> None:
    one = policy(allow(Condition={"StringEquals": {"s3:prefix": "${aws:username}/"}}))
    context = {"aws:username": ("ann",), "s3:prefix": ("ann/",)}
    assert answer(identity=(one,), context=context) is Effect.ALLOW
    assert answer(identity=(one,), context={"s3:prefix": ("/",)}) is Effect.NOTHING
    fallback = policy(allow(resource="arn:aws:s3:::b/${aws:username, 'folder'}/*"))
    assert answer(identity=(fallback,)) is Effect.ALLOW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"Statement": []}',
        '{"Statement": [1]}',
        json.dumps({"Statement": {**allow(), "Effect": "Maybe"}}),
        '{"Statement": {"Effect": "Allow", "Action": "s3:*"}}',
        '{"Statement": {"Effect": "Allow", "Resource": "*"}}',
        json.dumps({"Statement": allow(NotAction="s3:x")}),
        json.dumps({"Statement": allow("GetObject")}),
        json.dumps({"Statement": allow(resource="b/k")}),
        json.dumps({"Statement": allow(X=1)}),
        json.dumps({"Statement": allow(Principal="*")}),
        json.dumps({"Version": "2020-01-01", "Statement": allow()}),
        json.dumps({"Statement": [allow(Condition={"StringWeird": {"a": "b"}})]}),
        json.dumps({"Statement": [allow(Condition={"IpAddress": {"aws:SourceIp": "nowhere"}})]}),
        "[" * 100_000,
        '{"Statement": [], "Statement": []}',
        '{"Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}',
        '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": NaN}}',
        json.dumps({"Statement": allow()}) + " " * 70_000,
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_identity_policy(text)


def test_what_is_no_policy_of_a_bucket() -> None:
    for statement in (
        allow(),
        allow(Principal="ann"),
        allow(Principal={"AWS": "ann"}),
        allow(resource="arn:aws:s3:::other/*", Principal="*"),
        allow("iam:GetUser", Principal="*"),
    ):
        with pytest.raises(PolicyError):
            bucket_policy(statement)
    assert bucket_policy(allow(Principal="*", resource="arn:aws:s3:::b*"))


def test_a_role_that_a_bucket_names_is_cut_as_its_own_rights_are() -> None:
    session, role = "arn:aws:sts::111111111111:assumed-role/r/s", "arn:aws:iam::111111111111:role/r"
    worker = Asker("111111111111", (session, role))
    nothing = policy(allow("s3:PutObject"))
    by_role = bucket_policy(allow(Principal={"AWS": role}))
    by_session = bucket_policy(allow(Principal={"AWS": session}))
    assert answer(worker, on=by_role) is Effect.ALLOW
    assert answer(worker, on=by_role, boundary=nothing) is Effect.NOTHING
    assert answer(worker, on=by_role, session=(nothing,)) is Effect.NOTHING
    assert answer(worker, on=by_session, boundary=nothing, session=(nothing,)) is Effect.ALLOW
    assert answer(on=bucket_policy(allow(Principal={"AWS": ANN.arns[0]})), boundary=nothing) is (
        Effect.ALLOW
    )


def test_who_is_exempt_is_named_itself() -> None:
    own = (policy(allow("s3:*")),)
    account_alone = bucket_policy({**deny(), "NotPrincipal": {"AWS": "111111111111"}})
    assert answer(identity=own, on=account_alone) is Effect.DENY
    assert answer(ROOT, on=account_alone) is Effect.ALLOW
    with pytest.raises(PolicyError):
        bucket_policy({**allow(), "NotPrincipal": {"AWS": ANN.arns[0]}})


def test_what_cannot_be_read_any_more_denies() -> None:
    assert identity_policy('{"Statement":[]}').effect("s3:GetObject", OBJECT, nothing_known) is (
        Effect.NOTHING
    )
    assert identity_policy("{").effect("s3:GetObject", OBJECT, nothing_known) is Effect.DENY


def test_what_a_policy_asks_about() -> None:
    one = policy(
        allow(Condition={"StringEquals": {"s3:ExistingObjectTag/a": "b"}}),
        allow("s3:PutObject", resource="arn:aws:s3:::b/${s3:ExistingObjectTag/a}"),
        allow("s3:ListBucket"),
    )
    prefix = "s3:existingobjecttag/"
    assert one.asks_for("s3:GetObject", prefix)
    assert one.asks_for("s3:PutObject", prefix)
    assert not one.asks_for("s3:ListBucket", prefix)


def test_trust() -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "x"}, "Action": "sts:AssumeRole"}
    assert parse_trust_policy(json.dumps({"Statement": trust}))
    with pytest.raises(PolicyError):
        parse_trust_policy(json.dumps({"Statement": {**trust, "Resource": "*"}}))


NAMES = ["Statement", "Effect", "Action", "Resource", "Principal", "Condition", "AWS"]
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(["Allow", "s3:*", "*"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=15,
)


@given(DOCUMENTS)
def test_any_document_is_parsed_or_refused(document: Any) -> None:
    try:
        parse_bucket_policy(json.dumps(document), "b")
    except PolicyError:
        pass
