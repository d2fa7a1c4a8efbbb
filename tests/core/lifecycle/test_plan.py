"""What rules do to whom and when: AWS's examples, and a naive reading of the rules beside the
machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craqen.core.lifecycle.calendar import DAY_NS, REAL_DAYS, Calendar
from craqen.core.lifecycle.plan import ObjectEnd, ObjectEnds, Plan, Subject
from craqen.core.lifecycle.records import Filter, Lifecycle, Rule

SECOND_NS = 10**9
PLAIN = Subject(b"logs/a", 10, {})


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def plan(*rules: Rule, now: str = "2024-06-10T12:00", calendar: Calendar = REAL_DAYS) -> Plan:
    return Plan(Lifecycle(rules), ns(now), calendar)


class TestDays:
    def test_days_end_at_the_next_midnight_as_in_the_documentation_of_aws(self) -> None:
        # "Created at 1/15/2014 10:30 AM UTC, 3 days: … 1/19/2014 00:00 UTC"
        assert REAL_DAYS.due_ns(ns("2014-01-15T10:30"), 3) == ns("2014-01-19T00:00")
        # "Becomes noncurrent at 1/1/2014 10:30 AM UTC, 10 days: … 1/12/2014 00:00 UTC"
        assert REAL_DAYS.due_ns(ns("2014-01-01T10:30"), 10) == ns("2014-01-12T00:00")

    def test_what_begins_at_midnight_has_its_whole_days(self) -> None:
        assert REAL_DAYS.due_ns(ns("2014-01-15T00:00"), 1) == ns("2014-01-17T00:00")

    def test_days_of_a_test_clock_end_where_they_end(self) -> None:
        assert Calendar(10 * SECOND_NS).due_ns(7, 2) == 20 * SECOND_NS + 7

    @given(
        st.integers(0, 10**19),
        st.integers(0, 10**19),
        st.integers(1, 2**31),
        st.sampled_from([DAY_NS, DAY_NS - 1, SECOND_NS, 1]),
    )
    def test_before_is_what_is_due(self, since: int, now: int, days: int, day_ns: int) -> None:
        calendar = Calendar(day_ns)
        assert (since < calendar.before_ns(now, days)) == (calendar.due_ns(since, days) <= now)

    @pytest.mark.parametrize("day", [0, -1, DAY_NS + 1])
    def test_no_day_is_longer_than_a_day(self, day: int) -> None:
        with pytest.raises(AssertionError):
            Calendar(day)


class TestObjects:
    def test_an_object_ends_when_its_days_are_over(self) -> None:
        rule = Rule("r", True, Filter("logs/"), expiration_days=3)
        assert plan(rule).object_rule(PLAIN, ns("2024-06-06T23:59")) == "r"
        assert plan(rule).object_rule(PLAIN, ns("2024-06-07T00:00")) is None
        assert plan(rule).object_rule(PLAIN._replace(key=b"log"), 0) is None

    def test_a_date_ends_all_from_then_on_whatever_its_age(self) -> None:
        rule = Rule("r", True, expiration_date_ns=ns("2024-06-11"))
        now = ns("2024-06-10T12:00")
        assert plan(rule).object_rule(PLAIN, 0) is None
        assert plan(rule, now="2024-06-11").object_rule(PLAIN, ns("2024-06-11")) == "r"
        assert plan(rule, now="2024-07-11").object_rule(PLAIN, ns("2024-07-11")) == "r"
        assert plan(rule).objects_before_ns < now

    def test_a_disabled_rule_does_nothing(self) -> None:
        rule = Rule("r", False, expiration_days=1, noncurrent_days=1, abort_multipart_days=1)
        found = plan(rule)
        assert found.object_rule(PLAIN, 0) is None
        assert found.object_prefixes(versioned=True) == found.upload_prefixes() == []

    def test_sizes_are_exclusive(self) -> None:
        chosen = Filter(size_greater_than=5, size_less_than=9)
        found = plan(Rule("r", True, chosen, expiration_days=1))
        ended = [n for n in range(15) if found.object_rule(PLAIN._replace(size=n), 0)]
        assert ended == [6, 7, 8]

    def test_all_tags_must_be_there(self) -> None:
        found = plan(Rule("r", True, Filter(tags={"a": "1", "b": "2"}), expiration_days=1))
        for tags, ends in (
            ({"a": "1", "b": "2"}, True),
            ({"a": "1", "b": "2", "c": ""}, True),
            ({"a": "1", "b": "3"}, False),
            ({"a": "1"}, False),
            ({}, False),
        ):
            assert (found.object_rule(PLAIN._replace(tags=tags), 0) == "r") == ends, tags

    def test_prefixes_are_those_that_may_have_something(self) -> None:
        rules = [
            Rule(str(number), True, Filter(prefix), expiration_days=1)
            for number, prefix in enumerate(["b/", "a", "b/c", "ab", "c"])
        ]
        old = Rule("v", True, Filter("d"), noncurrent_days=1)
        future = Rule("f", True, Filter("e"), expiration_date_ns=ns("2030-01-01"))
        assert plan(*rules, old, future).object_prefixes(versioned=False) == [b"a", b"b/", b"c"]
        assert plan(*rules, old).object_prefixes(versioned=True) == [b"a", b"b/", b"c", b"d"]
        assert plan(*rules, Rule("n", True, expiration_days=1)).object_prefixes(
            versioned=False
        ) == [b""]


class TestVersions:
    def test_noncurrent_days_count_from_when_it_was_replaced(self) -> None:
        found = plan(Rule("r", True, noncurrent_days=1))
        for since, ends in (("2024-06-08T23:59", True), ("2024-06-09T00:00", False)):
            rule_id = found.version_rule(PLAIN, ns(since), 0, is_locked=False)
            assert (rule_id == "r") == ends

    def test_the_newest_noncurrent_ones_are_kept(self) -> None:
        found = plan(Rule("r", True, noncurrent_days=1, newer_noncurrent_versions=2))
        ended = [n for n in range(5) if found.version_rule(PLAIN, 0, n, is_locked=False)]
        assert ended == [2, 3, 4]
        assert found.newer_kept_max == 2
        assert found.old_marker_rule(b"k", 0, 1) is None
        assert found.old_marker_rule(b"k", 0, 2) == "r"

    def test_a_locked_version_stays(self) -> None:
        assert plan(Rule("r", True, noncurrent_days=1)).version_rule(
            PLAIN, 0, 9, is_locked=True
        ) is None  # fmt: skip

    def test_an_expired_marker_ends_at_once_or_by_the_days_of_objects(self) -> None:
        now = ns("2024-06-10T12:00")
        at_once = plan(Rule("r", True, Filter("logs/"), expired_delete_marker=True))
        assert at_once.marker_rule(b"logs/a", now) == "r"
        assert at_once.marker_rule(b"other", now) is None
        days = plan(Rule("r", True, expiration_days=2))
        assert days.marker_rule(b"k", ns("2024-06-07T12:00")) == "r"
        assert days.marker_rule(b"k", ns("2024-06-08T12:00")) is None
        assert plan(Rule("r", True, expired_delete_marker=False)).marker_rule(b"k", 0) is None

    @pytest.mark.parametrize(
        "chosen", [Filter(tags={"a": "b"}), Filter(size_greater_than=0), Filter(size_less_than=9)]
    )
    def test_markers_have_no_tags_and_no_size(self, chosen: Filter) -> None:
        found = plan(Rule("r", True, chosen, expiration_days=1, noncurrent_days=1))
        assert found.marker_rule(b"k", 0) is None
        assert found.old_marker_rule(b"k", 0, 9) is None


def test_uploads_end_days_after_they_were_begun() -> None:
    found = plan(Rule("r", True, Filter("a/"), abort_multipart_days=2))
    assert found.upload_prefixes() == [b"a/"]
    assert found.object_prefixes(versioned=True) == []
    assert found.upload_rule(b"a/b", ns("2024-06-07T23:59")) == "r"
    assert found.upload_rule(b"a/b", ns("2024-06-08T00:00")) is None
    assert found.upload_rule(b"b", 0) is None


def test_a_thousand_prefixes_are_told_apart() -> None:
    rules = [Rule(str(n), True, Filter(f"{n}/"), expiration_days=1) for n in range(1000)]
    found = plan(*rules, Rule("all", True, Filter("9"), expiration_days=2))
    for key, rule_id in ((b"17/k", "17"), (b"1/7", "1"), (b"1000/k", None), (b"9", "all")):
        assert found.object_rule(PLAIN._replace(key=key), 0) == rule_id
    assert found.object_rule(PLAIN._replace(key=b"999/k"), 0) in ("999", "all")
    ends = ObjectEnds(Lifecycle(tuple(rules)), REAL_DAYS)
    end = ends.of(PLAIN._replace(key=b"999/k"), 0)
    assert end is not None
    assert end.rule_id == "999"


class TestTold:
    def test_the_first_end_is_told(self) -> None:
        ends = ObjectEnds(
            Lifecycle((
                Rule("off", False, expiration_days=1),
                Rule("late", True, expiration_days=9),
                Rule("soon", True, Filter("logs/"), expiration_days=2),
                Rule("date", True, Filter("x"), expiration_date_ns=ns("2024-01-01")),
                Rule("old", True, noncurrent_days=1),
            )),
            REAL_DAYS,
        )  # fmt: skip
        began = ns("2024-06-10T12:00")
        assert ends.of(PLAIN, began) == ObjectEnd(ns("2024-06-13"), "soon")
        assert ends.of(PLAIN._replace(key=b"k"), began) == ObjectEnd(ns("2024-06-20"), "late")
        assert ends.of(PLAIN._replace(key=b"x"), began) == ObjectEnd(ns("2024-01-01"), "date")

    def test_what_stays_has_no_end(self) -> None:
        ends = ObjectEnds(Lifecycle((Rule("r", True, Filter("a"), expiration_days=1),)), REAL_DAYS)
        assert ends.of(PLAIN, 0) is None


# A naive reading of the rules: one rule and one thing at a time, dates as people write them.

_NAMES = st.text("ab/", max_size=3)
_TAGS = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)
_FILTERS = st.builds(
    Filter,
    st.none() | _NAMES,
    _TAGS,
    st.none() | st.integers(0, 4),
    st.none() | st.integers(1, 6),
)
_DAYS = st.none() | st.integers(1, 3)
_MOMENTS = st.datetimes(datetime(2024, 6, 1), datetime(2024, 6, 7)).map(
    lambda moment: moment.replace(minute=0, second=0, microsecond=0)
)
_RULES = st.lists(
    st.builds(
        Rule,
        st.uuids().map(str),
        st.booleans(),
        _FILTERS,
        expiration_days=_DAYS,
        expiration_date_ns=st.none() | _MOMENTS.map(lambda m: ns(m.date().isoformat())),
        expired_delete_marker=st.none() | st.booleans(),
        noncurrent_days=_DAYS,
        newer_noncurrent_versions=_DAYS,
        abort_multipart_days=_DAYS,
    ),
    max_size=4,
)


def over(since: datetime, days: int, now: datetime) -> bool:
    """Whether *days* are over: counted to the first midnight after them."""
    reached = since + timedelta(days=days)
    midnight = datetime(reached.year, reached.month, reached.day) + timedelta(days=1)
    return now >= midnight


def let_through(chosen: Filter, key: str, size: int | None, tags: dict[str, str] | None) -> bool:
    """*size* and *tags* None: of a thing that has none, so that no filter on them is met."""
    if chosen.prefix and not key.startswith(chosen.prefix):
        return False
    if chosen.tags and (tags is None or any(tags.get(k) != v for k, v in chosen.tags.items())):
        return False
    larger, smaller = chosen.size_greater_than, chosen.size_less_than
    if larger is not None and (size is None or size <= larger):
        return False
    if smaller is not None and (size is None or size >= smaller):
        return False
    return True


@given(_RULES, _NAMES, st.integers(0, 7), _TAGS, _MOMENTS, _MOMENTS, st.integers(0, 4))
def test_the_machine_does_what_a_naive_reading_says(
    rules: list[Rule],
    key: str,
    size: int,
    tags: dict[str, str],
    since: datetime,
    now: datetime,
    newer: int,
) -> None:
    found = plan(*rules, now=now.isoformat())
    subject, since_ns = Subject(key.encode(), size, tags), ns(since.isoformat())
    objects, versions, markers, old_markers, uploads = set(), set(), set(), set(), set()
    for rule in rules:
        if not rule.enabled:
            continue
        through = let_through(rule.filter, key, size, tags)
        bare = let_through(rule.filter, key, None, None)
        days_over = rule.expiration_days is not None and over(since, rule.expiration_days, now)
        date_ns = rule.expiration_date_ns
        if through and (days_over or (date_ns is not None and ns(now.isoformat()) >= date_ns)):
            objects.add(rule.id)
        if bare and (days_over or rule.expired_delete_marker):
            markers.add(rule.id)
        if rule.noncurrent_days is not None and over(since, rule.noncurrent_days, now):
            if newer >= (rule.newer_noncurrent_versions or 0):
                versions |= {rule.id} if through else set()
                old_markers |= {rule.id} if bare else set()
        if rule.abort_multipart_days is not None and over(since, rule.abort_multipart_days, now):
            uploads |= {rule.id} if bare else set()

    def agrees(said: str | None, expected: set[str]) -> None:
        assert said in expected if expected else said is None

    agrees(found.object_rule(subject, since_ns), objects)
    agrees(found.version_rule(subject, since_ns, newer, is_locked=False), versions)
    agrees(found.marker_rule(subject.key, since_ns), markers)
    agrees(found.old_marker_rule(subject.key, since_ns, newer), old_markers)
    agrees(found.upload_rule(subject.key, since_ns), uploads)
    # What is told of an object's end is when it comes.
    told = ObjectEnds(Lifecycle(tuple(rules)), REAL_DAYS).of(subject, since_ns)
    assert (told is not None and told.due_ns <= found.now_ns) == bool(objects)
    # What the scan leaves out beforehand is nothing that ends.
    in_prefixes = any(subject.key.startswith(one) for one in found.object_prefixes(versioned=True))
    if objects or versions or markers:
        assert in_prefixes
    if objects:
        assert since_ns < found.objects_before_ns
    if versions:
        assert since_ns < found.versions_before_ns
