"""Condition blocks. Pure. Operators: docs.aws.amazon.com/IAM/latest/UserGuide/
reference_policies_elements_condition_operators.html."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from .errors import PolicyError
from .patterns import Pattern, matches_glob

ADDRESSES_KEPT_MAX = 1024  # taken apart, of those who ask

Values = tuple[str, ...]
Context = Callable[[str], Values | None]
"""The values of a condition key, in lower case, for the request at hand; None: it has none."""

Test = Callable[[str, str], bool]
"""(the request's value, the policy's value)"""


Fits = Callable[[str, Context], bool]
"""(a value of the request, the request): whether it fits any value of the policy."""


class Condition:
    """One key of one operator, compiled."""

    __slots__ = (
        "_absent", "_every", "_fits", "if_exists", "key", "negated", "operator", "quantifier",
        "values",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        quantifier: str,
        operator: str,
        negated: bool,
        if_exists: bool,
        values: Values,
    ) -> None:
        """*quantifier*: ``forallvalues``, ``foranyvalue`` or empty. Raises PolicyError."""
        self.key = key
        self.quantifier = quantifier
        self.operator = operator
        self.negated = negated
        self.if_exists = if_exists
        self.values = values
        _check(self)
        self._fits: Fits
        self._absent = (
            if_exists or quantifier == "forallvalues" or (negated and quantifier != "foranyvalue")
        )
        self._every = quantifier == "forallvalues" or (negated and not quantifier)
        if operator == "null":
            wanted = {value.lower() for value in values}
            self._absent, present = "true" in wanted, "false" in wanted
            self._every, self._fits = True, lambda value, context: present
        else:
            self._fits = _compiled(operator, values)

    @property
    def can_merge(self) -> bool:
        """Whether it is nothing but "one of the values"."""
        return not (self.negated or self.quantifier or self.if_exists or self.operator == "null")

    def merged(self, other: Condition) -> Condition:
        """What holds where either does; both can merge, on one key by one operator."""
        values = tuple(dict.fromkeys(self.values + other.values))
        return Condition(self.key, "", self.operator, False, False, values)

    def holds(self, context: Context) -> bool:
        """Whether the request satisfies it."""
        found = context(self.key)
        if not found:
            return self._absent
        if len(found) == 1:
            return self._fits(found[0], context) != self.negated
        held = (self._fits(value, context) != self.negated for value in found)
        return all(held) if self._every else any(held)


def _compiled(operator: str, values: Values) -> Fits:
    """What depends on the policy alone is done here, once."""
    fixed = not any("${" in value for value in values)
    if operator in ("stringlike", "arnlike"):
        return lambda value, context: any(_like(value, wanted, context) for wanted in values)
    if fixed and operator == "stringequals":
        wanted_values = frozenset(values)
        return lambda value, context: value in wanted_values
    if fixed and operator == "ipaddress":
        networks = [_bits_of_network(value) for value in values]
        return lambda value, context: _in_networks(value, networks)
    test = _TESTS[operator]
    if fixed:
        return lambda value, context: any(test(value, wanted) for wanted in values)
    return lambda value, context: any(
        test(value, _substituted(wanted, context) if "${" in wanted else wanted)
        for wanted in values
    )


def _bits_of_network(text: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), int(network.netmask)


@lru_cache(maxsize=ADDRESSES_KEPT_MAX)
def _bits_of_address(text: str) -> tuple[int, int] | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def _in_networks(value: str, networks: list[tuple[int, int, int]]) -> bool:
    found = _bits_of_address(value)
    if found is None:
        return False
    version, bits = found
    for other, network, mask in networks:
        if version == other and bits & mask == network:
            return True
    return False


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
            found.append(Condition(key.lower(), quantifier, operator, negated, if_exists, texts))
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
