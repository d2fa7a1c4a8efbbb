"""The aws-chunked decoder: every framing, every fragmentation, every damage."""

from __future__ import annotations

import base64
import itertools
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.chunked import (
    LINE_BYTES_MAX,
    ChunkDecoder,
    decoded_length_bytes,
    stored_content_encoding,
    trailer_names,
)
from craqen.gateway.auth.request import Payload, SignedRequest
from craqen.gateway.errors import S3Error
from craqen.tests.gateway.unit.signing_client import (
    REGION,
    OneUser,
    authenticate,
    encode_signed,
    encode_unsigned,
    now,
    sign,
)

URL = "http://store.example/bucket/key"
DATA = bytes(range(256)) * 5
CHECKSUM = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
TRAILERS = {"x-amz-checksum-crc32": CHECKSUM}


def request_for(payload: Payload, data: bytes = DATA) -> SignedRequest:
    headers = {"x-amz-decoded-content-length": str(len(data))}
    if payload is not Payload.CHUNKS_SIGNED:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    return sign("PUT", URL, headers, content_sha256=payload.value)


def body_for(
    request: SignedRequest, payload: Payload, chunk_bytes: int, data: bytes = DATA
) -> bytes:
    if payload is Payload.CHUNKS_UNSIGNED_TRAILER:
        return encode_unsigned(data, chunk_bytes, TRAILERS)
    trailers = TRAILERS if payload is Payload.CHUNKS_SIGNED_TRAILER else None
    return encode_signed(request, data, chunk_bytes, trailers)


def decoder_for(request: SignedRequest) -> ChunkDecoder:
    answer = authenticate(Authenticator(OneUser(), region=REGION), request, now())
    return ChunkDecoder(
        answer.payload,
        decoded_length_bytes=decoded_length_bytes(request.headers),
        signing=answer.chunk_signing,
        trailer_names=trailer_names(request.headers),
    )


def decode(
    request: SignedRequest, body: bytes, cuts: list[int] | None = None
) -> tuple[bytes, dict[str, str]]:
    decoder = decoder_for(request)
    edges = [0, *sorted(cuts or []), len(body)]
    out = bytearray()
    for start, end in itertools.pairwise(edges):
        for piece in decoder.feed(memoryview(body)[start:end]):
            out += piece
    decoder.finish()
    return bytes(out), decoder.trailers


def failure(request: SignedRequest, body: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        decode(request, body)
    return caught.value.code


CHUNKED = [payload for payload in Payload if payload.is_chunked and not payload.is_asymmetric]
each_kind = pytest.mark.parametrize("payload", CHUNKED)


@each_kind
@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000, 10_000])
def test_round_trip(payload: Payload, chunk_bytes: int) -> None:
    request = request_for(payload)
    trailers = {} if payload is Payload.CHUNKS_SIGNED else TRAILERS
    assert decode(request, body_for(request, payload, chunk_bytes)) == (DATA, trailers)


@each_kind
def test_empty_payload(payload: Payload) -> None:
    request = request_for(payload, b"")
    body = body_for(request, payload, 10, b"")
    assert decode(request, body)[0] == b""
    # What Hadoop sends to make a directory: 86 bytes of framing around nothing.
    assert payload is not Payload.CHUNKS_SIGNED or len(body) == 86


@settings(max_examples=150, deadline=None)
@given(data=st.data(), payload=st.sampled_from(CHUNKED), chunk_bytes=st.integers(1, 400))
def test_any_fragmentation_gives_the_same(
    data: st.DataObject, payload: Payload, chunk_bytes: int
) -> None:
    request = request_for(payload)
    body = body_for(request, payload, chunk_bytes)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=60))
    assert decode(request, body, cuts) == decode(request, body)


@each_kind
def test_byte_by_byte(payload: Payload) -> None:
    request = request_for(payload)
    body = body_for(request, payload, 100)
    assert decode(request, body, list(range(len(body))))[0] == DATA


@settings(max_examples=200, deadline=None)
@given(data=st.data(), payload=st.sampled_from(CHUNKED))
def test_any_damage_is_refused_or_harmless(data: st.DataObject, payload: Payload) -> None:
    """A flipped bit is an S3 error, or changes nothing but framing; never an escape of another
    exception. Signed payload never comes through changed; unsigned is the checksum's business."""
    request = request_for(payload)
    body = bytearray(body_for(request, payload, 300))
    index = data.draw(st.integers(0, len(body) - 1))
    body[index] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded, trailers = decode(request, bytes(body))
    except S3Error:
        return
    if payload is not Payload.CHUNKS_UNSIGNED_TRAILER:
        assert decoded == DATA
        assert trailers == ({} if payload is Payload.CHUNKS_SIGNED else TRAILERS)
    else:
        assert len(decoded) == len(DATA)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=3000), payload=st.sampled_from(CHUNKED))
def test_noise_is_refused(body: bytes, payload: Payload) -> None:
    assert failure(request_for(payload), body) in (
        "IncompleteBody",
        "SignatureDoesNotMatch",
        "MalformedTrailerError",
    )


@each_kind
def test_truncation_at_any_byte_is_refused(payload: Payload) -> None:
    request = request_for(payload)
    body = body_for(request, payload, 500)
    # Only the line end behind everything that counts may be missing.
    for length in range(len(body) - 2):
        assert failure(request, body[:length]) in (
            "IncompleteBody",
            "MalformedTrailerError",
            "SignatureDoesNotMatch",
        ), length
    assert decode(request, body[:-2])[0] == DATA


def test_swapped_chunks_are_refused() -> None:
    payload = Payload.CHUNKS_SIGNED
    request = request_for(payload)
    body = body_for(request, payload, 640)
    size = len(b"280;chunk-signature=\r\n\r\n") + 64 + 640
    assert len(DATA) == 1280
    swapped = body[size : 2 * size] + body[:size] + body[2 * size :]
    assert failure(request, swapped) == "SignatureDoesNotMatch"


def test_chunks_of_another_request_are_refused() -> None:
    payload = Payload.CHUNKS_SIGNED
    other = sign(
        "PUT", URL + "2", {"x-amz-decoded-content-length": "1280"}, content_sha256=payload.value
    )
    assert failure(request_for(payload), body_for(other, payload, 640)) == "SignatureDoesNotMatch"


@each_kind
@pytest.mark.parametrize("stated", [len(DATA) - 1, len(DATA) + 1, 0])
def test_payload_must_have_the_stated_length(payload: Payload, stated: int) -> None:
    request = request_for(payload, b"x" * stated)
    assert failure(request, body_for(request, payload, 100)) == "IncompleteBody"


def test_too_large_a_chunk_is_refused_at_its_header() -> None:
    decoder = decoder_for(request_for(Payload.CHUNKS_UNSIGNED_TRAILER))
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder.feed(b"%x\r\n" % (len(DATA) + 1))


@pytest.mark.parametrize(
    "header",
    [b"zz\r\n", b"-1\r\n", b"\r\n", b"0x5\r\n", b"1" * 17 + b"\r\n", b"5" * (LINE_BYTES_MAX + 1)],
)
def test_malformed_chunk_headers(header: bytes) -> None:
    request = request_for(Payload.CHUNKS_UNSIGNED_TRAILER)
    assert failure(request, header + b"x" * 10) == "IncompleteBody"


def test_a_long_line_is_refused_before_it_ends() -> None:
    decoder = decoder_for(request_for(Payload.CHUNKS_UNSIGNED_TRAILER))
    for _ in range(LINE_BYTES_MAX):
        assert decoder.feed(b"0") == []
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder.feed(b"0")


UNSIGNED_END = b"500\r\n" + DATA + b"\r\n0\r\n"


@pytest.mark.parametrize(
    ("end", "accepted"),
    [
        (b"x-amz-checksum-crc32:%s\r\n\r\n", True),
        (b"x-amz-checksum-crc32: %s \r\n\r\n", True),
        (b"X-Amz-Checksum-CRC32:%s\r\n\r\n", True),
        (b"x-amz-checksum-crc32:%s\n\r\n\r\n", True),
        (b"x-amz-checksum-crc32:%s\r\n", True),
        (b"\r\n", False),
        (b"", False),
        (b"x-amz-checksum-crc32:%s", False),
        (b"x-amz-checksum-crc32:%s\r\n\r\nmore\r\n", False),
        (b"x-amz-checksum-crc32:%s\r\nx-amz-checksum-crc32:%s\r\n\r\n", False),
        (b"x-amz-checksum-crc32:%s\r\nx-amz-meta-a:b\r\n\r\n", False),
        (b"x-amz-checksum-sha1:%s\r\n\r\n", False),
        (b"no colon %s\r\n\r\n", False),
        (b"x-amz-checksum-crc32:%s\r\n" + b"\r\n" * 40, False),
    ],
)
def test_unsigned_trailers(end: bytes, accepted: bool) -> None:
    request = request_for(Payload.CHUNKS_UNSIGNED_TRAILER)
    body = UNSIGNED_END + end.replace(b"%s", CHECKSUM.encode())
    if accepted:
        assert decode(request, body) == (DATA, TRAILERS)
    else:
        assert failure(request, body) in ("MalformedTrailerError", "IncompleteBody")


def test_signed_trailer_must_be_signed() -> None:
    payload = Payload.CHUNKS_SIGNED_TRAILER
    request = request_for(payload)
    body = body_for(request, payload, 1000)
    line = body[body.index(b"x-amz-trailer-signature") :]
    assert failure(request, body.replace(line, b"\r\n")) == "MalformedTrailerError"
    forged = CHECKSUM.replace(CHECKSUM[0], "A" if CHECKSUM[0] != "A" else "B")
    changed = body.replace(CHECKSUM.encode(), forged.encode())
    assert failure(request, changed) == "SignatureDoesNotMatch"


def test_empty_line_before_a_trailer_signature() -> None:
    payload = Payload.CHUNKS_SIGNED_TRAILER
    request = request_for(payload)
    body = body_for(request, payload, 1000)
    other = body.replace(b"\r\nx-amz-trailer", b"\n\r\nx-amz-trailer")
    assert decode(request, other) == (DATA, TRAILERS)


def test_payload_is_not_copied() -> None:
    request = request_for(Payload.CHUNKS_UNSIGNED_TRAILER)
    buffer = bytearray(body_for(request, Payload.CHUNKS_UNSIGNED_TRAILER, 10_000))
    pieces = decoder_for(request).feed(buffer)
    assert [piece.obj for piece in pieces] == [buffer]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MissingContentLength"),
        ({"x-amz-decoded-content-length": "-1"}, "InvalidArgument"),
        ({"x-amz-decoded-content-length": "٣"}, "InvalidArgument"),
        ({"x-amz-decoded-content-length": "9" * 30}, "InvalidArgument"),
    ],
)
def test_decoded_length(headers: dict[str, str], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        decoded_length_bytes(headers)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("aws-chunked", ""),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, AWS-Chunked", "gzip"),
        ("br", "br"),
    ],
)
def test_stored_content_encoding(value: str, stored: str) -> None:
    assert stored_content_encoding(value) == stored
