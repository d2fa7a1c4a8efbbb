"""Checksums and digests of bodies: against botocore, against whole-data digests, and refusals."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import threading

import pytest
from botocore import httpchecksum
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.gateway.auth.credentials import Credentials
from craqen.gateway.auth.request import Authentication, Payload
from craqen.gateway.body.checksums import (
    ALGORITHMS,
    COMPOSITE,
    FULL_OBJECT,
    combine_full_object,
    composite,
    compute,
    multipart_checksum,
    split_composite,
    stated_checksum,
)
from craqen.gateway.body.digest import EMPTY_MD5, multipart_etag, quote_etag, unquote_etag
from craqen.gateway.body.verification import BodyResult, BodyVerifier
from craqen.gateway.errors import S3Error
from craqen.tests.gateway.unit.signing_client import TESTER

DATA = bytes(range(256)) * 20

# Of the text "123456789"; from the algorithms' own definitions.
CHECK_VALUES = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "xxhash64": "8cb841db40e6ae83",
}


def authentication(content_sha256: str = "") -> Authentication:
    payload = Payload.LITERAL if content_sha256 else Payload.UNSIGNED
    return Authentication(Credentials("a", "b", TESTER), payload, content_sha256, None, False, {})


def verifier(
    headers: dict[str, str], content_sha256: str = "", length: int | None = None
) -> BodyVerifier:
    return BodyVerifier.for_request(headers, authentication(content_sha256), length_bytes=length)


def result(headers: dict[str, str], data: bytes = DATA, **options: str) -> BodyResult:
    trailers = {name.replace("_", "-"): value for name, value in options.items()}
    body = verifier(headers)
    body.update(memoryview(data))
    return body.finish(trailers)


def code_of(call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(S3Error) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize("name", CHECK_VALUES)
def test_check_values(name: str) -> None:
    value = compute(ALGORITHMS[name], b"123456789")
    assert base64.b64decode(value).hex() == CHECK_VALUES[name]


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "md5"])
@pytest.mark.parametrize("data", [b"", b"a", DATA])
def test_as_botocore_computes_them(name: str, data: bytes) -> None:
    """botocore writes the header itself; ours must be the same text."""
    checksum_class = vars(httpchecksum)["_CHECKSUM_CLS"][name]
    assert checksum_class().handle(io.BytesIO(data)) == compute(ALGORITHMS[name], data)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=5000), cuts=st.lists(st.integers(0, 5000), max_size=6))
@pytest.mark.parametrize("name", ALGORITHMS)
def test_pieces_give_the_whole(name: str, data: bytes, cuts: list[int]) -> None:
    hasher = ALGORITHMS[name].new()
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        hasher.update(memoryview(data)[start:end])
    assert base64.b64encode(hasher.digest()).decode() == compute(
        ALGORITHMS[name], data[: edges[-1]]
    )
    assert len(hasher.digest()) == ALGORITHMS[name].size_bytes


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
@pytest.mark.parametrize("name", ["crc32", "crc32c", "crc64nvme"])
def test_full_object_crc_from_parts(name: str, parts: list[bytes]) -> None:
    algorithm = ALGORITHMS[name]
    values = [(compute(algorithm, part), len(part)) for part in parts]
    assert combine_full_object(algorithm, values) == compute(algorithm, b"".join(parts))


def test_composite() -> None:
    algorithm = ALGORITHMS["sha256"]
    parts = [b"one", b"two"]
    whole = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    value = composite(algorithm, [compute(algorithm, part) for part in parts])
    assert value == base64.b64encode(whole).decode() + "-2"
    assert split_composite(value) == (base64.b64encode(whole).decode(), 2)
    assert split_composite("AAAA") == ("AAAA", 0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_stated_in_a_header(name: str) -> None:
    algorithm = ALGORITHMS[name]
    headers = {
        algorithm.header: compute(algorithm, DATA),
        "x-amz-sdk-checksum-algorithm": algorithm.label,
        "x-amz-checksum-mode": "ENABLED",
    }
    assert result(headers).checksums == {name: compute(algorithm, DATA)}
    headers[algorithm.header] = compute(algorithm, b"other")
    assert code_of(result, headers) == "BadDigest"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_stated_in_a_trailer(name: str) -> None:
    algorithm = ALGORITHMS[name]
    body = verifier({"x-amz-trailer": algorithm.header.upper()})
    body.update(DATA)
    assert body.finish({algorithm.header: compute(algorithm, DATA)}).checksums == {
        name: compute(algorithm, DATA)
    }
    assert code_of(body.finish, {algorithm.header: compute(algorithm, b"")}) == "BadDigest"
    assert code_of(body.finish, {algorithm.header: "????"}) == "BadDigest"
    assert code_of(body.finish, {}) == "MalformedTrailerError"


CRC32 = compute(ALGORITHMS["crc32"], DATA)


@pytest.mark.parametrize("value", ["not base64", "AAAA", "", "é"])
def test_what_is_no_digest_matches_nothing(value: str) -> None:
    assert code_of(stated_checksum, {"x-amz-checksum-crc32": value}) == "BadDigest"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": CRC32, "x-amz-checksum-sha1": "x"},
        {"x-amz-checksum-crc32": CRC32, "x-amz-trailer": "x-amz-checksum-crc32"},
        {"x-amz-checksum-crc31": CRC32},
        {"x-amz-trailer": "x-amz-meta-a"},
        {"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-sdk-checksum-algorithm": "CRC31"},
        {"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": CRC32},
    ],
)
def test_statements_that_are_refused(headers: dict[str, str]) -> None:
    assert code_of(stated_checksum, headers) == "InvalidRequest"


def test_required_checksum() -> None:
    with pytest.raises(S3Error, match="Content-MD5"):
        stated_checksum({}, required=True)
    assert stated_checksum({"content-md5": "x"}, required=True) is None
    assert stated_checksum({"x-amz-checksum-crc32": CRC32}, required=True) is not None


def test_content_md5() -> None:
    good = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    assert result({"content-md5": good}).md5 == hashlib.md5(DATA).hexdigest()
    other = base64.b64encode(hashlib.md5(b"").digest()).decode()
    assert code_of(result, {"content-md5": other}) == "BadDigest"
    for bad in ("", "AAAA", good[:-1], hashlib.md5(DATA).hexdigest()):
        assert code_of(result, {"content-md5": bad}) == "InvalidDigest"


def test_signed_sha256() -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    body = verifier({}, digest)
    body.update(DATA)
    assert body.finish().length_bytes == len(DATA)
    body.update(b"!")
    with pytest.raises(S3Error) as caught:
        body.finish()
    assert caught.value.code == "XAmzContentSHA256Mismatch"
    assert caught.value.fields["ClientComputedContentSHA256"] == digest


@pytest.mark.parametrize("difference", [-1, 1])
def test_length(difference: int) -> None:
    body = verifier({}, length=len(DATA) + difference)
    body.update(DATA)
    assert code_of(body.finish) == "IncompleteBody"


def test_nothing_stated() -> None:
    assert result({}, b"") == BodyResult(0, EMPTY_MD5, {})


def test_default_algorithm() -> None:
    crc64 = ALGORITHMS["crc64nvme"]
    for headers, expected in (
        ({}, {"crc64nvme": compute(crc64, DATA)}),
        ({"x-amz-checksum-crc32": CRC32}, {"crc32": CRC32}),
    ):
        body = BodyVerifier.for_request(headers, authentication(), length_bytes=None, default=crc64)
        body.update(DATA)
        assert body.finish().checksums == expected


@pytest.mark.parametrize("name", ["md5", "sha256", "crc32c"])
def test_lanes_in_two_threads_give_the_same(name: str) -> None:
    algorithm = ALGORITHMS[name]
    headers = {algorithm.header: compute(algorithm, DATA * 10)}
    body = verifier(headers, hashlib.sha256(DATA * 10).hexdigest())

    def run(lane: int) -> None:
        for _ in range(10):
            body.lanes[lane](memoryview(DATA))

    threads = [threading.Thread(target=run, args=(lane,)) for lane in range(len(body.lanes))]
    assert len(threads) == 2
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert body.finish() == BodyResult(
        len(DATA) * 10, hashlib.md5(DATA * 10).hexdigest(), {name: headers[algorithm.header]}
    )


@pytest.mark.parametrize(
    ("label", "kind", "expected"),
    [
        (None, None, ("", "")),
        ("CRC32", None, ("crc32", COMPOSITE)),
        ("CRC32", "FULL_OBJECT", ("crc32", FULL_OBJECT)),
        ("crc64nvme", None, ("crc64nvme", FULL_OBJECT)),
        ("SHA256", "COMPOSITE", ("sha256", COMPOSITE)),
        ("SHA256", "FULL_OBJECT", None),
        ("CRC64NVME", "COMPOSITE", None),
        ("CRC32", "SOMETHING", None),
        ("CRC31", None, None),
        (None, "COMPOSITE", None),
    ],
)
def test_multipart_checksum(
    label: str | None, kind: str | None, expected: tuple[str, str] | None
) -> None:
    headers = {}
    if label is not None:
        headers["x-amz-checksum-algorithm"] = label
    if kind is not None:
        headers["x-amz-checksum-type"] = kind
    if expected is None:
        assert code_of(multipart_checksum, headers) == "InvalidRequest"
    else:
        assert multipart_checksum(headers) == expected


def test_multipart_etag() -> None:
    parts = [hashlib.md5(part) for part in (b"one", b"two")]
    whole = hashlib.md5(b"".join(part.digest() for part in parts)).hexdigest()
    assert multipart_etag(part.hexdigest() for part in parts) == f"{whole}-2"
    assert multipart_etag(["0000-1-w"]).endswith("-1")


@pytest.mark.parametrize("value", ['"abc"', "abc", ' "abc" ', 'W/"abc"', 'abc"'])
def test_unquote_etag(value: str) -> None:
    assert unquote_etag(value) == "abc"
    assert unquote_etag(quote_etag("abc")) == "abc"
