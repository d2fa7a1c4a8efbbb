"""MACHINE: what the rules of a bucket do, at a moment, to an object, a noncurrent version, a delete
marker or an unfinished upload.

The rules are AWS's. Several may apply: whatever one of them ends, ends. A locked version stays, and
so does what is newest of the noncurrent versions as far as a rule keeps them; delete markers do not
count as kept ones. Expiration of a delete marker without versions follows the days of an expiration
rule, too; markers have no tags and no size, so rules with such filters are not about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from .calendar import Calendar
from .records import Filter, Lifecycle, Rule

ALWAYS_NS: Final = 1 << 100
"""Later than all times."""
NEVER_NS: Final = -1
SIZE_MAX: Final = 1 << 100


class Subject(NamedTuple):
    """An object or a version of one."""

    key: bytes
    size: int
    tags: Mapping[str, str]


class _Ending(NamedTuple):
    """One rule's word about one kind of thing."""

    rule_id: str
    prefix: bytes
    before_ns: int
    """It ends what began before."""
    larger_than: int = -1
    smaller_than: int = SIZE_MAX
    tags: tuple[tuple[str, str], ...] = ()
    newer_kept: int = 0

    def covers(self, subject: Subject) -> bool:
        """Whether the filter lets *subject* through, whose key has the prefix."""
        _, size, tags = subject
        if not self.larger_than < size < self.smaller_than:
            return False
        for name, value in self.tags:
            if tags.get(name) != value:
                return False
        return True


class _Endings:
    """Those of one kind, found by the prefixes of a key: there may be a thousand."""

    def __init__(self, endings: Iterable[_Ending]) -> None:
        self.latest_ns = NEVER_NS
        by_length: dict[int, dict[bytes, list[_Ending]]] = {}
        for ending in endings:
            self.latest_ns = max(self.latest_ns, ending.before_ns)
            same_length = by_length.setdefault(len(ending.prefix), {})
            same_length.setdefault(ending.prefix, []).append(ending)
        self._by_length = sorted(by_length.items())

    def __iter__(self) -> Iterator[_Ending]:
        for _, by_prefix in self._by_length:
            for endings in by_prefix.values():
                yield from endings

    def of(self, key: bytes) -> list[_Ending]:
        """Those whose prefix *key* has."""
        found: list[_Ending] = []
        for length, by_prefix in self._by_length:
            found += by_prefix.get(key[:length], ())
        return found


class Plan:
    """The enabled rules of a bucket at one moment."""

    def __init__(self, lifecycle: Lifecycle, now_ns: int, calendar: Calendar) -> None:
        self.now_ns = now_ns
        rules = [rule for rule in lifecycle.rules if rule.enabled]
        self._objects = _Endings(_of_objects(rules, now_ns, calendar))
        self._versions = _Endings(_of_versions(rules, now_ns, calendar))
        self._markers = _Endings(_of_markers(rules, now_ns, calendar))
        self._uploads = _Endings(_of_uploads(rules, now_ns, calendar))
        self.newer_kept_max = max((one.newer_kept for one in self._versions), default=0)
        """How many newer versions it can matter to count."""
        self.objects_before_ns = self._objects.latest_ns
        """No current object that began at this time or later ends."""
        self.versions_before_ns = self._versions.latest_ns
        """The same of noncurrent versions, by the time since which they are noncurrent."""

    def object_prefixes(self, *, versioned: bool) -> list[bytes]:
        """Prefixes of all keys whose objects (or, in a *versioned* bucket, versions and markers)
        may end now, in order; none covers another."""
        endings = [*self._objects]
        if versioned:
            endings += [*self._versions, *self._markers]
        return _prefixes(endings)

    def upload_prefixes(self) -> list[bytes]:
        """The same of unfinished uploads."""
        return _prefixes(self._uploads)

    def object_rule(self, subject: Subject, began_ns: int) -> str | None:
        """The id of a rule that ends the current object *subject*, which has been what it is since
        *began_ns*; None if it stays."""
        for ending in self._objects.of(subject.key):
            if began_ns < ending.before_ns and ending.covers(subject):
                return ending.rule_id
        return None

    def version_rule(
        self, subject: Subject, since_ns: int, newer: int, *, is_locked: bool
    ) -> str | None:
        """The id of a rule that ends a version noncurrent since *since_ns*, of which there are
        *newer* noncurrent ones that are newer; None if it stays."""
        if is_locked:
            return None
        for ending in self._versions.of(subject.key):
            if (
                since_ns < ending.before_ns
                and newer >= ending.newer_kept
                and ending.covers(subject)
            ):
                return ending.rule_id
        return None

    def old_marker_rule(self, key: bytes, since_ns: int, newer: int) -> str | None:
        """The id of a rule that ends a delete marker noncurrent since *since_ns*."""
        for ending in self._versions.of(key):
            if (
                since_ns < ending.before_ns
                and newer >= ending.newer_kept
                and _is_of_markers(ending)
            ):
                return ending.rule_id
        return None

    def marker_rule(self, key: bytes, made_ns: int) -> str | None:
        """The id of a rule that ends a delete marker behind which there is no version."""
        for ending in self._markers.of(key):
            if made_ns < ending.before_ns:
                return ending.rule_id
        return None

    def upload_rule(self, key: bytes, begun_ns: int) -> str | None:
        """The id of a rule that ends an upload begun at *begun_ns*."""
        for ending in self._uploads.of(key):
            if begun_ns < ending.before_ns:
                return ending.rule_id
        return None


class ObjectEnd(NamedTuple):
    """When a current object will end, as things are."""

    due_ns: int
    rule_id: str


class ObjectEnds:
    """When objects will end: what ``x-amz-expiration`` tells."""

    def __init__(self, lifecycle: Lifecycle, calendar: Calendar) -> None:
        self._calendar = calendar
        self._rules = {rule.id: rule for rule in lifecycle.rules if rule.enabled}
        self._endings = _Endings(
            _ending(rule, 0)
            for rule in self._rules.values()
            if rule.expiration_days is not None or rule.expiration_date_ns is not None
        )

    def of(self, subject: Subject, began_ns: int) -> ObjectEnd | None:
        """The first end that a rule sets to the current object *subject*; None: it stays."""
        first: ObjectEnd | None = None
        for ending in self._endings.of(subject.key):
            if not ending.covers(subject):
                continue
            rule = self._rules[ending.rule_id]
            dates = [] if rule.expiration_date_ns is None else [rule.expiration_date_ns]
            if rule.expiration_days is not None:
                dates.append(self._calendar.due_ns(began_ns, rule.expiration_days))
            due_ns = min(dates)
            if first is None or due_ns < first.due_ns:
                first = ObjectEnd(due_ns, rule.id)
        return first


def _of_objects(rules: Sequence[Rule], now_ns: int, calendar: Calendar) -> Iterator[_Ending]:
    for rule in rules:
        if rule.expiration_days is not None:
            yield _ending(rule, calendar.before_ns(now_ns, rule.expiration_days))
        if rule.expiration_date_ns is not None:
            yield _ending(rule, ALWAYS_NS if now_ns >= rule.expiration_date_ns else NEVER_NS)


def _of_versions(rules: Sequence[Rule], now_ns: int, calendar: Calendar) -> Iterator[_Ending]:
    for rule in rules:
        if rule.noncurrent_days is not None:
            ending = _ending(rule, calendar.before_ns(now_ns, rule.noncurrent_days))
            yield ending._replace(newer_kept=rule.newer_noncurrent_versions or 0)


def _of_markers(rules: Sequence[Rule], now_ns: int, calendar: Calendar) -> Iterator[_Ending]:
    for rule in rules:
        if not _is_about_names(rule.filter):
            continue
        if rule.expired_delete_marker:
            yield _ending(rule, ALWAYS_NS)
        if rule.expiration_days is not None:
            yield _ending(rule, calendar.before_ns(now_ns, rule.expiration_days))


def _of_uploads(rules: Sequence[Rule], now_ns: int, calendar: Calendar) -> Iterator[_Ending]:
    for rule in rules:
        if rule.abort_multipart_days is not None and _is_about_names(rule.filter):
            yield _ending(rule, calendar.before_ns(now_ns, rule.abort_multipart_days))


def _ending(rule: Rule, before_ns: int) -> _Ending:
    chosen = rule.filter
    return _Ending(
        rule.id,
        (chosen.prefix or "").encode(),
        before_ns,
        -1 if chosen.size_greater_than is None else chosen.size_greater_than,
        SIZE_MAX if chosen.size_less_than is None else chosen.size_less_than,
        tuple(chosen.tags.items()),
    )


def _is_about_names(chosen: Filter) -> bool:
    """Whether the filter asks for nothing but a prefix."""
    return not chosen.tags and chosen.size_greater_than is None and chosen.size_less_than is None


def _is_of_markers(ending: _Ending) -> bool:
    return not ending.tags and ending.larger_than < 0 and ending.smaller_than == SIZE_MAX


def _prefixes(endings: Iterable[_Ending]) -> list[bytes]:
    found: list[bytes] = []
    for prefix in sorted({ending.prefix for ending in endings if ending.before_ns > 0}):
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    return found
