"""Every name shows under one name, and that name means it alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craqen.core.errors import NameTooLongError, NotFoundError
from craqen.core.meta.bucket_names import is_bucket_name
from craqen.core.meta.names import digest_of, meant, shown

names = st.one_of(
    st.binary(max_size=12).map(lambda name: name.replace(b"/", b"")),
    st.sampled_from([b"", b".", b"..", b".s3~", b".s3~e~", b".s3~e~%", b"%2E", b"\0", b"a%00b"]),
    st.binary(min_size=200, max_size=400).map(lambda name: name.replace(b"/", b"x")),
)


@given(names, st.booleans())
def test_there_and_back(name: bytes, hidden: bool) -> None:
    posix = shown(name, hidden_file=hidden)
    assert 1 <= len(posix) <= 255
    assert posix not in (b".", b"..")
    assert b"\0" not in posix
    back = meant(posix)
    assert back.hidden_file == hidden
    assert back.name == (digest_of(name) if back.is_digest else name)


@given(names, names, st.booleans(), st.booleans())
def test_two_names_never_show_as_one(
    first: bytes, second: bytes, hidden: bool, other: bool
) -> None:
    if (first, hidden) != (second, other):
        assert shown(first, hidden_file=hidden) != shown(second, hidden_file=other)


@pytest.mark.parametrize("name", [b".s3~", b".s3~x~a", b".s3~e~a", b".s3~l~00", b".s3~e~%41"])
def test_what_only_looks_escaped_does_not_exist(name: bytes) -> None:
    with pytest.raises(NotFoundError):
        meant(name)


def test_too_long() -> None:
    with pytest.raises(NameTooLongError):
        meant(b"x" * 256)


def test_bucket_names() -> None:
    for name in ("abc", "a-b.c", "1bucket", "a" * 63):
        assert is_bucket_name(name)
    for name in (
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-abc",
        "abc-",
        "a..b",
        "1.2.3.4",
        "xn--a",
        "a-s3alias",
    ):
        assert not is_bucket_name(name)
