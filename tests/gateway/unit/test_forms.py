"""Upload forms: the parser against cuts at any byte, policies against fields."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.limits import PUT_BYTES_MAX
from craqen.gateway.errors import S3Error
from craqen.gateway.forms.parser import FIELDS_BYTES_MAX, FileDecoder, FormHead, boundary_of
from craqen.gateway.forms.policy import check_policy, parse_policy

BOUNDARY = b"----form7b"
NOW = 1_790_000_000.0  # 2026-09-21
FUTURE = "2026-12-31T00:00:00.000Z"


def form(*parts: tuple[str, bytes], tail: bytes = b"--\r\n") -> bytes:
    """A form whose parts have the given Content-Disposition parameters."""
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; %s\r\nContent-Type: text/plain\r\n\r\n%s\r\n"
        % (BOUNDARY, parameters.encode(), value)
        for parameters, value in parts
    )
    return body + b"--" + BOUNDARY + tail


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def parse(pieces: list[bytes], most: int = PUT_BYTES_MAX, least: int = 0) -> tuple[FormHead, bytes]:
    """Fields and file of a form that comes in *pieces*."""
    head = FormHead(BOUNDARY)
    decoder: FileDecoder | None = None
    content = b""
    for piece in pieces:
        data: bytes | None = piece
        if decoder is None:
            data = head.feed(piece)
            if data is None:
                continue
            decoder = FileDecoder(BOUNDARY, least=least, most=most)
        assert data is not None
        found = b"".join(decoder.feed(memoryview(data)))
        assert len(found) <= len(data)
        content += found
    if decoder is None:
        raise head.missing_file()
    decoder.finish()
    return head, content


def code_of(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(S3Error) as caught:
        call(*arguments, **options)
    return caught.value.code


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([b"\r", b"\n", b"--", b"\r\n--" + BOUNDARY[:-1], b"x"])).map(
            b"".join
        ),
    ),
    cuts=st.lists(st.integers(0, 700), max_size=12),
    preamble=st.sampled_from([b"", b"\r\n", b"ignored\r\n"]),
)
def test_a_form_cut_anywhere(content: bytes, cuts: list[int], preamble: bytes) -> None:
    data = preamble + form(
        ('name="Key"', b"a/${filename}"),
        ('name="x-amz-meta-Umlaut"; filename="x-amz-meta-Umlaut"', "ä".encode()),
        ('name="empty"', b""),
        ('name="file"; filename="C:\\\\dir\\\\pic \\"1\\".png"', content),
        ('name="behind"', b"is ignored"),
    )
    head, found = parse(cut(data, cuts))
    assert found == content
    assert head.fields == {"key": "a/${filename}", "x-amz-meta-umlaut": "ä", "empty": ""}
    assert head.file_name == 'pic "1".png'


def test_a_file_name_in_the_extended_form() -> None:
    head, _ = parse([form(("name=file; filename*=UTF-8''a%20%C3%A4.txt", b"x"))])
    assert head.file_name == "a ä.txt"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (form(('name="key"', b"k")), "InvalidArgument"),
        (b"", "InvalidArgument"),
        (b"junk--" + BOUNDARY + b"\r\n", "MalformedPOSTRequest"),
        (b"--" + BOUNDARY + b"junk\r\n", "MalformedPOSTRequest"),
        (form(("nothing", b"k")), "MalformedPOSTRequest"),
        (form(('name="key"', b"\xff")), "MalformedPOSTRequest"),
        (form(('name="file"', b"x"))[:-8], "MalformedPOSTRequest"),
        (b"--%s\r\n\r\nno headers" % BOUNDARY + b"\r\n\r\n", "MalformedPOSTRequest"),
        (
            form(('name="key"', b"k" * FIELDS_BYTES_MAX), ('name="file"', b"x")),
            "MaxPostPreDataLengthExceededError",
        ),
        (b"x" * (FIELDS_BYTES_MAX + 1), "MaxPostPreDataLengthExceededError"),
    ],
)
def test_forms_that_are_refused(data: bytes, code: str) -> None:
    assert code_of(parse, [data]) == code
    assert code_of(parse, cut(data, list(range(0, len(data), 700)))) == code


def test_the_file_has_bounds() -> None:
    data = [form(('name="file"', b"12345"))]
    assert parse(data, most=5, least=5)[1] == b"12345"
    assert code_of(parse, data, most=4) == "EntityTooLarge"
    assert code_of(parse, data, least=6) == "EntityTooSmall"


def test_too_much_is_refused_before_it_has_ended() -> None:
    decoder = FileDecoder(BOUNDARY, least=0, most=1000)
    decoder.feed(bytes(1000))
    assert code_of(decoder.feed, bytes(100)) == "EntityTooLarge"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a b;c"', b"a b;c"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "x" * 201, None),
    ],
)
def test_boundaries(content_type: str, expected: bytes | None) -> None:
    if expected is None:
        assert code_of(boundary_of, content_type) == "MalformedPOSTRequest"
    else:
        assert boundary_of(content_type) == expected


def encoded(document: Any) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.b64encode(text.encode()).decode()


def check(conditions: list[Any], fields: dict[str, str], expiration: str = FUTURE) -> None:
    policy = parse_policy(encoded({"expiration": expiration, "conditions": conditions}))
    check_policy(policy, fields, "bucket", NOW)


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([{"bucket": "bucket"}, ["starts-with", "$key", "a/"]], {"key": "a/b"}),
        ([["StArTs-WiTh", "$KeY", ""]], {"key": "anything"}),
        ([["eq", "$key", "k"], {"acl": "private"}], {"key": "k", "acl": "private"}),
        (
            [{"key": "k", "success_action_status": 201}],
            {"key": "k", "success_action_status": "201"},
        ),
        ([["starts-with", "$Content-Type", "image/"]], {"content-type": "image/png, image/gif"}),
        ([{"key": "k"}], {"key": "k", "x-ignore-this": "1", "policy": "…", "signature": "…"}),
        ([{"key": "k"}], {"key": "k", "x-amz-checksum-sha256": "…"}),
        ([["starts-with", "$x-amz-meta-a", ""]], {}),
    ],
)
def test_forms_that_a_policy_allows(conditions: list[Any], fields: dict[str, str]) -> None:
    check(conditions, fields)


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([{"bucket": "other"}], {}),
        ([["starts-with", "$key", "a/"]], {"key": "b/a/"}),
        ([{"key": "k"}], {"key": "K"}),
        ([{"key": "k"}], {"key": "k", "acl": "private"}),
        ([{"key": "k"}, {"x-amz-meta-a": ""}], {"key": "k"}),
        ([["starts-with", "$Content-Type", "image/"]], {"content-type": "image/png,text/html"}),
        ([["starts-with", "$x-amz-meta-a", "b"]], {}),
    ],
)
def test_forms_that_a_policy_refuses(conditions: list[Any], fields: dict[str, str]) -> None:
    assert code_of(check, conditions, fields) == "AccessDenied"


def test_a_policy_ends() -> None:
    check([], {}, "2026-09-21T14:13:21Z")
    assert code_of(check, [], {}, "2026-09-21T14:13:20Z") == "AccessDenied"


def test_bounds_of_the_file() -> None:
    conditions = [["content-length-range", 1, 10], ["content-length-range", "0", "9"]]
    policy = parse_policy(encoded({"expiration": FUTURE, "conditions": conditions}))
    assert (policy.least, policy.most) == (1, 9)


def test_a_dollar_may_be_escaped() -> None:
    conditions = '[["starts-with", "$key", "\\$a\\\\$"]]'
    policy = parse_policy(encoded(f'{{"expiration": "{FUTURE}", "conditions": {conditions}}}'))
    assert policy.conditions[0].value == "$a\\$"


@pytest.mark.parametrize(
    "document",
    [
        "no json",
        "[" * 5000,
        [],
        {"conditions": []},
        {"expiration": FUTURE},
        {"expiration": FUTURE, "CONDITIONS": []},
        {"expiration": "2026-12-31 00:00:00", "conditions": []},
        {"expiration": "2026-13-31T00:00:00Z", "conditions": []},
        {"expiration": 1, "conditions": []},
        {"expiration": FUTURE, "conditions": [{}]},
        {"expiration": FUTURE, "conditions": [{"key": ["k"]}]},
        {"expiration": FUTURE, "conditions": [["eq", "key", "k"]]},
        {"expiration": FUTURE, "conditions": [["like", "$key", "k"]]},
        {"expiration": FUTURE, "conditions": [["content-length-range", 1]]},
        {"expiration": FUTURE, "conditions": [["content-length-range", -1, 5]]},
        {"expiration": FUTURE, "conditions": ["eq"]},
    ],
)
def test_policies_that_make_no_sense(document: Any) -> None:
    assert code_of(parse_policy, encoded(document)) == "InvalidPolicyDocument"


def test_a_policy_that_is_not_base64() -> None:
    assert code_of(parse_policy, "???") == "InvalidPolicyDocument"
