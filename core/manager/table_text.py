"""Pure: the routing table as a document that people can read, change and upload."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeVar

import msgspec
from msgspec.structs import fields

from ..cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    NodeRecord,
    NodeState,
    PublicState,
    Record,
    RoutingTable,
    TargetRecord,
)
from ..errors import InvalidArgumentError

R = TypeVar("R", bound=Record)

_PARTS: dict[str, type[Record]] = {
    "nodes": NodeRecord,
    "targets": TargetRecord,
    "chains": ChainRecord,
    "tables": ChainTable,
}
_STATES: dict[type[Record], type[IntEnum]] = {NodeRecord: NodeState, ChainTarget: PublicState}


def document(table: RoutingTable) -> dict[str, Any]:
    """*table* with every field named, states in words."""
    return _named(table)


def _named(record: Record) -> dict[str, Any]:
    return {one.name: _plain(getattr(record, one.name)) for one in fields(record)}


def _plain(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [_named(one) if isinstance(one, Record) else one for one in value]
    return value


def parse(text: object) -> RoutingTable:
    """The table that a document tells of. Raises InvalidArgumentError, which names the place."""
    values = _fields(RoutingTable, text, "the table")
    for part, kind in _PARTS.items():
        values[part] = _list(values.get(part, []), kind, part)
    return _record(RoutingTable, values, "the table")


def _list(value: object, kind: type[R], where: str) -> list[R]:
    if not isinstance(value, list):
        raise InvalidArgumentError(f"{where}: expected a list, found {type(value).__name__}")
    return [_parse_one(kind, one, f"{where}[{place}]") for place, one in enumerate(value)]


def _parse_one(kind: type[R], text: object, where: str) -> R:
    values = _fields(kind, text, where)
    if kind is ChainRecord:
        values["targets"] = _list(values.get("targets", []), ChainTarget, f"{where}.targets")
    states = _STATES.get(kind)
    if states is not None and "state" in values:
        name = str(values["state"]).upper()
        if name not in states.__members__:
            known = ", ".join(one.lower() for one in states.__members__)
            raise InvalidArgumentError(
                f"{where}.state: {values['state']!r} is none; expected one of: {known}"
            )
        values["state"] = states[name]
    return _record(kind, values, where)


def _fields(kind: type[Record], text: object, where: str) -> dict[str, Any]:
    """A copy of an object of the document, if it has no fields but known ones."""
    if not isinstance(text, dict):
        raise InvalidArgumentError(f"{where}: expected an object, found {type(text).__name__}")
    known = [one.name for one in fields(kind)]
    unknown = set(text) - set(known)
    if unknown:
        raise InvalidArgumentError(
            f"{where}: unknown field {min(unknown)!r}; expected: {', '.join(known)}"
        )
    return dict(text)


def _record(kind: type[R], values: dict[str, Any], where: str) -> R:
    missing = [one.name for one in fields(kind) if one.required and one.name not in values]
    if missing:
        raise InvalidArgumentError(f"{where}: {missing[0]} is missing")
    for one in fields(kind):
        if one.name in values:
            try:
                values[one.name] = msgspec.convert(values[one.name], one.type)
            except msgspec.ValidationError as error:
                raise InvalidArgumentError(f"{where}.{one.name}: {error}") from error
    return kind(**values)
