"""Which destinations an event is told to. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import UNREADABLE, DataLossError
from .records import EVENT_BRIDGE, HAPPENING, Notification, decode_notification

KEPT_MAX = 256
"""Configurations that a process keeps ready."""


class Told(NamedTuple):
    """Who is told, and by which configuration."""

    destination: str
    rule_id: str


class _Rule(NamedTuple):
    told: Told
    prefix: bytes
    suffix: bytes


class Rules:
    """The configurations of a bucket, ready to be asked."""

    def __init__(self, notification: Notification) -> None:
        self.destinations = notification.targets
        """Everybody who is told of something."""
        self._by_event: dict[str, list[_Rule]] = {}
        for each in notification.configurations:
            rule = _Rule(
                Told(each.target, each.id),
                (each.prefix or "").encode(),
                (each.suffix or "").encode(),
            )
            for name in sorted(HAPPENING):
                if any(covers(pattern, f"s3:{name}") for pattern in each.events):
                    self._by_event.setdefault(name, []).append(rule)
        if notification.event_bridge:
            rule = _Rule(Told(EVENT_BRIDGE, EVENT_BRIDGE), b"", b"")
            for name in HAPPENING:
                self._by_event.setdefault(name, []).append(rule)

    def wants(self, name: str) -> bool:
        """Whether *name* of some key is told to anybody."""
        return name in self._by_event

    def told(self, name: str, key: bytes) -> list[Told]:
        """Who is told of event *name* of the object *key*."""
        return [
            rule.told
            for rule in self._by_event.get(name, ())
            if key.startswith(rule.prefix) and key.endswith(rule.suffix)
        ]


class KnownRules:
    """Rules by the stored setting, so that not each change of an object makes them anew."""

    def __init__(self) -> None:
        self._rules: dict[bytes, Rules] = {}

    def of(self, value: bytes) -> Rules:
        """The rules that a stored setting means. Raises DataLossError for a damaged one."""
        rules = self._rules.get(value)
        if rules is None:
            try:
                rules = Rules(decode_notification(value))
            except UNREADABLE as error:
                raise DataLossError(
                    "a bucket's notification configuration is damaged: put it again"
                ) from error
            if len(self._rules) >= KEPT_MAX:
                self._rules.clear()
            self._rules[value] = rules
        return rules


def covers(pattern: str, event: str) -> bool:
    """Whether *pattern*, as configurations have it, is about *event*."""
    return pattern == event or (pattern.endswith("*") and event.startswith(pattern[:-1]))
