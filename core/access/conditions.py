"""Condition blocks. Pure. Operators: docs.aws.amazon.com/IAM/latest/UserGuide/
reference_policies_elements_condition_operators.html."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from .errors import PolicyError
from .patterns import Pattern, matches_glob

Values = tuple[str, ...]
Context = Callable[[str], Values | None]
"""The values of a condition key, in lower case, for the request at hand; None: it has none."""

Test = Callable[[str, str], bool]
"""(the request's value, the policy's value)"""


class Condition(NamedTuple):
    """One key of one operator."""

    key: str
    quantifier: str
    """``forallvalues``, ``foranyvalue`` or empty."""
    operator: str
    negated: bool
    if_exists: bool
    values: Values

    def holds(self, context: Context) -> bool:
        """Whether the request satisfies it."""
        found = context(self.key)
        if self.operator == "null":
            wanted = {value.lower() for value in self.values}
            return ("true" if not found else "false") in wanted
        if not found:
            return (
                self.if_exists
                or self.quantifier == "forallvalues"
                or (self.negated and self.quantifier != "foranyvalue")
            )
        if self.quantifier == "forallvalues":
            return all(self._accepts(value, context) for value in found)
        if self.quantifier == "foranyvalue":
            return any(self._accepts(value, context) for value in found)
        if self.negated:
            return all(self._accepts(value, context) for value in found)
        return any(self._accepts(value, context) for value in found)

    def _accepts(self, value: str, context: Context) -> bool:
        matched = any(self._matches(value, wanted, context) for wanted in self.values)
        return matched != self.negated

    def _matches(self, value: str, wanted: str, context: Context) -> bool:
        if self.operator in ("stringlike", "arnlike"):
            return _like(value, wanted, context)
        if "${" in wanted:
            wanted = _substituted(wanted, context)
        return _TESTS[self.operator](value, wanted)


def parse_conditions(block: object) -> tuple[Condition, ...]:
    """The conditions of a statement. Raises PolicyError."""
    if not isinstance(block, dict):
        raise PolicyError("Condition must be an object")
    found: list[Condition] = []
    for name, keys in block.items():
        if not isinstance(keys, dict):
            raise PolicyError(f"Condition {name}: must be an object")
        quantifier, operator, negated, if_exists = _operator(name)
        for key, values in keys.items():
            texts = _texts(values)
            condition = Condition(key.lower(), quantifier, operator, negated, if_exists, texts)
            _check(condition)
            found.append(condition)
    return tuple(found)


def _operator(name: str) -> tuple[str, str, bool, bool]:
    quantifier, colon, rest = name.rpartition(":")
    quantifier = quantifier.lower()
    if colon and quantifier not in ("forallvalues", "foranyvalue"):
        raise PolicyError(f"Condition operator {name!r} is unknown")
    operator = rest.lower()
    if_exists = operator.endswith("ifexists") and operator != "ifexists"
    operator = operator.removesuffix("ifexists") if if_exists else operator
    negated = operator in _NEGATED
    operator = _NEGATED.get(operator, operator)
    if operator not in _TESTS and operator not in ("stringlike", "arnlike", "null"):
        raise PolicyError(f"Condition operator {name!r} is unknown")
    return quantifier, operator, negated, if_exists


def _texts(values: object) -> Values:
    found = values if isinstance(values, list) else [values]
    texts: list[str] = []
    for value in found:
        if isinstance(value, bool):
            texts.append("true" if value else "false")
        elif isinstance(value, str | int | float):
            texts.append(str(value))
        else:
            raise PolicyError("Condition values must be texts, numbers or truth values")
    return tuple(texts)


def _check(condition: Condition) -> None:
    """Raise PolicyError for values that the operator could never understand."""
    check = _CHECKS.get(condition.operator)
    if check is None:
        return
    for value in condition.values:
        if "${" not in value and check(value) is None:
            raise PolicyError(f"Condition value {value!r} is not fit for {condition.operator}")


def _like(value: str, wanted: str, context: Context) -> bool:
    if "${" not in wanted:
        return matches_glob(value, wanted)
    return Pattern(wanted).matches(value, lambda name: variable(name, context))


def variable(name: str, context: Context) -> str | None:
    """The value of a policy variable, which may state a default: ``aws:username, 'nobody'``."""
    if name in ("*", "?", "$"):
        return name
    name, comma, default = name.partition(",")
    found = context(name.strip().lower())
    if found is not None and len(found) == 1:
        return found[0]
    default = default.strip()
    if comma and len(default) >= 2 and default[0] == default[-1] == "'":
        return default[1:-1]
    return None


def _substituted(text: str, context: Context) -> str:
    found: list[str] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = text.find("}", start)
        if end < 0:
            break
        value = variable(text[start + 2 : end], context)
        if value is None:
            return "\0"  # equal to nothing that a request can hold
        found += (text[position:start], value)
        position = end + 1
    return "".join((*found, text[position:]))


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _date(text: str) -> float | None:
    if text.isascii() and text.lstrip("-").replace(".", "", 1).isdigit():
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _in_network(value: str, wanted: str) -> bool:
    network = _network(wanted)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return network is not None and address.version == network.version and address in network


def _compared(
    read: Callable[[str], Decimal | float | None], compare: Callable[[object, object], bool]
) -> Test:
    def test(value: str, wanted: str) -> bool:
        first, second = read(value), read(wanted)
        return first is not None and second is not None and compare(first, second)

    return test


def _binary(value: str, wanted: str) -> bool:
    try:
        return base64.b64decode(value) == base64.b64decode(wanted)
    except (binascii.Error, ValueError):
        return False


_ORDER: Sequence[tuple[str, Callable[[object, object], bool]]] = (
    ("equals", lambda one, other: one == other),
    ("lessthan", lambda one, other: one < other),  # type: ignore[operator]
    ("lessthanequals", lambda one, other: one <= other),  # type: ignore[operator]
    ("greaterthan", lambda one, other: one > other),  # type: ignore[operator]
    ("greaterthanequals", lambda one, other: one >= other),  # type: ignore[operator]
)
_TESTS: dict[str, Test] = {
    "stringequals": lambda value, wanted: value == wanted,
    "stringequalsignorecase": lambda value, wanted: value.lower() == wanted.lower(),
    "bool": lambda value, wanted: value.lower() == wanted.lower(),
    "binaryequals": _binary,
    "ipaddress": _in_network,
    "arnequals": matches_glob,
    **{f"numeric{name}": _compared(_number, compare) for name, compare in _ORDER},
    **{f"date{name}": _compared(_date, compare) for name, compare in _ORDER},
}
_NEGATED = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
    "notipaddress": "ipaddress",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
}
_CHECKS: dict[str, Callable[[str], object]] = {
    "ipaddress": _network,
    **{f"numeric{name}": _number for name, _ in _ORDER},
    **{f"date{name}": _date for name, _ in _ORDER},
}
