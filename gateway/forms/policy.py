"""The policy of an upload form: what its signer lets others upload. Pure.

A JSON document with an expiration and conditions; every field of the form must be named by one,
but for those that belong to the signature, state a checksum, or begin with ``x-ignore-``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from ...core.limits import PUT_BYTES_MAX
from ..errors import S3Error
from ..times import NANOSECONDS, parse_time_ns

_UNCOVERED = frozenset({"file", "policy", "signature", "x-amz-signature", "awsaccesskeyid"})
_IGNORED = ("x-ignore-", "x-amz-checksum-")
_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_ESCAPED_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\\\$")  # legal in policies, not in JSON

EQUALS, STARTS_WITH, LENGTH_RANGE = "eq", "starts-with", "content-length-range"


class Condition(NamedTuple):
    """One condition on a field."""

    operator: str
    field: str
    """In lower case, without the dollar sign."""
    value: str

    def __str__(self) -> str:
        return f'["{self.operator}", "${self.field}", "{self.value}"]'


class Policy(NamedTuple):
    """A policy, understood."""

    expires_seconds: float
    conditions: tuple[Condition, ...]
    least: int
    """Bytes that the file must have at least, and at most."""
    most: int


def parse_policy(encoded: str) -> Policy:
    """Read a form's base64 policy. Raises S3Error InvalidPolicyDocument."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
        document = json.loads(_ESCAPED_DOLLAR.sub(r"\1$", text))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _invalid("it is not JSON in base64") from error
    if not isinstance(document, dict):
        raise _invalid("it is not an object")
    expiration, conditions = document.get("expiration"), document.get("conditions")
    if not isinstance(expiration, str):
        raise _invalid("Policy missing expiration.")
    ends_ns = parse_time_ns(expiration) if _EXPIRATION.fullmatch(expiration) else None
    if ends_ns is None:
        raise _invalid(f"Invalid 'expiration' value: '{expiration}'")
    if not isinstance(conditions, list):
        raise _invalid("Policy missing conditions.")
    checks: list[Condition] = []
    least, most = 0, PUT_BYTES_MAX
    for item in conditions:
        if isinstance(item, dict) and item:
            checks += [_equals(name, value) for name, value in item.items()]
        elif isinstance(item, list) and len(item) == 3 and isinstance(item[0], str):
            operator = item[0].lower()
            if operator == LENGTH_RANGE:
                least, most = max(least, _length(item[1])), min(most, _length(item[2]))
            else:
                checks.append(_condition(operator, item[1], item[2]))
        else:
            raise _invalid(f"Invalid condition: {json.dumps(item)[:200]}")
    return Policy(ends_ns / NANOSECONDS, tuple(checks), least, most)


def check_policy(
    policy: Policy, fields: Mapping[str, str], bucket: str, now_seconds: float
) -> None:
    """Check that the policy allows the form: *fields* by lower-case name, the key as it will be.

    Raises S3Error AccessDenied.
    """
    if now_seconds >= policy.expires_seconds:
        raise _refused("Policy expired.")
    named = {"bucket"}
    for condition in policy.conditions:
        named.add(condition.field)
        value = bucket if condition.field == "bucket" else fields.get(condition.field)
        if not _holds(condition, value):
            raise _refused(f"Policy Condition failed: {condition}")
    for name in fields:
        if name not in named and name not in _UNCOVERED and not name.startswith(_IGNORED):
            raise _refused(f"Extra input fields: {name}")


def _holds(condition: Condition, value: str | None) -> bool:
    if condition.operator == EQUALS:
        return value == condition.value
    if condition.field == "content-type" and value is not None and "," in value:
        return all(item.strip().startswith(condition.value) for item in value.split(","))
    return (value or "").startswith(condition.value)


def _equals(name: str, value: object) -> Condition:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _invalid(f"Invalid value of {name[:200]}")
    return Condition(EQUALS, name.lower(), str(value))


def _condition(operator: str, field: object, value: object) -> Condition:
    if operator not in (EQUALS, STARTS_WITH):
        raise _invalid(f"Invalid operator: {operator[:200]}")
    if not isinstance(field, str) or not field.startswith("$") or not isinstance(value, str):
        raise _invalid(f"Invalid condition: {operator}")
    return Condition(operator, field[1:].lower(), value)


def _length(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _invalid("Invalid content-length-range")
    return value


def _invalid(reason: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {reason}")


def _refused(reason: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {reason}")
