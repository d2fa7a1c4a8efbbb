"""Checksums of S3 bodies: ten algorithms, as headers and trailers state them. Pure.

Algorithms go by their lower-case names (``crc32c``), as in ``x-amz-checksum-crc32c``; values are
base64 of the big-endian digest; for the XXHASH family that is its canonical form, as the SDKs have
it (aws-checksums, source/xxhash; a test holds ours against botocore's). ``update`` releases the GIL
for large pieces.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import xxhash
from awscrt import checksums as crt
from isal import isal_zlib

from ..errors import S3Error
from ..headers import Headers

Buffer = bytes | bytearray | memoryview

FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"

HEADER_PREFIX = "x-amz-checksum-"


class Hasher(Protocol):
    """An incremental checksum."""

    def update(self, data: Buffer, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC over a function that continues from the previous value."""

    __slots__ = ("_function", "_size_bytes", "_value")

    def __init__(self, function: Callable[[Buffer, int], int], size_bytes: int) -> None:
        self._function = function
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


class Algorithm(NamedTuple):
    """What there is to know of an algorithm."""

    name: str
    size_bytes: int
    new: Callable[[], Hasher]
    combine: Callable[[int, int, int], int] | None
    """CRCs: that of two runs of bytes end to end, from both CRCs and the second's length."""

    @property
    def label(self) -> str:
        """As documents and ``x-amz-checksum-algorithm`` spell it."""
        return self.name.upper()

    @property
    def header(self) -> str:
        return HEADER_PREFIX + self.name

    @property
    def default_type(self) -> str:
        """The checksum type of a multipart upload that names none."""
        return FULL_OBJECT if self.name == "crc64nvme" else COMPOSITE


def _combine_crc32(first: int, second: int, second_length_bytes: int) -> int:
    value: int = isal_zlib.crc32_combine(first, second, second_length_bytes)
    return value


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("crc32", 4, lambda: _Crc(isal_zlib.crc32, 4), _combine_crc32),
        Algorithm("crc32c", 4, lambda: _Crc(crt.crc32c, 4), crt.combine_crc32c),
        Algorithm("crc64nvme", 8, lambda: _Crc(crt.crc64nvme, 8), crt.combine_crc64nvme),
        Algorithm("sha1", 20, lambda: hashlib.sha1(usedforsecurity=False), None),
        Algorithm("sha256", 32, hashlib.sha256, None),
        Algorithm("sha512", 64, hashlib.sha512, None),
        Algorithm("md5", 16, lambda: hashlib.md5(usedforsecurity=False), None),
        Algorithm("xxhash64", 8, xxhash.xxh64, None),
        Algorithm("xxhash3", 8, xxhash.xxh3_64, None),
        Algorithm("xxhash128", 16, xxhash.xxh3_128, None),
    )
}
"""By lower-case name."""

_BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}
_LABELS = ", ".join(algorithm.label for algorithm in ALGORITHMS.values())
_NOT_VALUES = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})
_COMPOSITE_FORM = re.compile(r"(.+)-([1-9][0-9]{0,4})")


class StatedChecksum(NamedTuple):
    """The checksum that a request states for its body."""

    algorithm: Algorithm
    value: str
    """Base64; empty if it comes as a trailer."""

    @property
    def in_trailer(self) -> bool:
        return not self.value


def find_algorithm(label: str) -> Algorithm:
    """The algorithm that a client calls *label*. Raises S3Error InvalidRequest."""
    algorithm = ALGORITHMS.get(label.lower())
    if algorithm is None:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [{_LABELS}]",
        )
    return algorithm


def stated_checksum(headers: Headers, *, required: bool = False) -> StatedChecksum | None:
    """The checksum that *headers* state, by value or as a trailer to come; None if none.

    *required*: that there is a checksum or a Content-MD5 (DeleteObjects). Raises S3Error
    InvalidRequest: more than one, an unknown one, none though one was announced or required;
    BadDigest: a value of the wrong form.
    """
    found = [name for name in headers if name.startswith(HEADER_PREFIX) and name not in _NOT_VALUES]
    trailer = headers.get("x-amz-trailer")
    if trailer is not None:
        for name in trailer.lower().split(","):
            if name.strip() not in _BY_HEADER:
                raise S3Error(
                    "InvalidRequest",
                    "The value specified in the x-amz-trailer header is not supported",
                )
            found.append(name.strip())
    if len(found) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    announced = headers.get("x-amz-sdk-checksum-algorithm")
    if not found:
        if announced is not None:
            find_algorithm(announced)
            raise S3Error(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
                "or x-amz-trailer headers were found.",
            )
        if required and "content-md5" not in headers:
            raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5")
        return None
    algorithm = _BY_HEADER.get(found[0])
    if algorithm is None:
        raise S3Error(
            "InvalidRequest",
            "The algorithm type you specified in x-amz-checksum- header is invalid.",
        )
    if announced is not None and announced.lower() != algorithm.name:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    if trailer is not None:
        return StatedChecksum(algorithm, "")
    value = headers[algorithm.header]
    check_value(algorithm, value)
    return StatedChecksum(algorithm, value)


def check_value(algorithm: Algorithm, value: str) -> None:
    """Check that *value* is base64 of a digest of *algorithm*. Raises S3Error BadDigest: what is no
    digest matches no content."""
    if _decode(value, algorithm.size_bytes) is None:
        raise S3Error("BadDigest", f"Value for {algorithm.header} header is invalid.")


def content_md5(headers: Headers) -> bytes | None:
    """The digest that Content-MD5 states. Raises S3Error InvalidDigest."""
    value = headers.get("content-md5")
    if value is None:
        return None
    digest = _decode(value, 16)
    if digest is None:
        raise S3Error("InvalidDigest", fields={"Content-MD5": value})
    return digest


def multipart_checksum(headers: Headers) -> tuple[str, str]:
    """Algorithm name and type that CreateMultipartUpload asks for; two empty texts for none.

    Raises S3Error InvalidRequest for what S3 does not combine.
    """
    label = headers.get("x-amz-checksum-algorithm")
    kind = headers.get("x-amz-checksum-type")
    if label is None:
        if kind is not None:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header.",
            )
        return "", ""
    algorithm = find_algorithm(label)
    if kind is None:
        return algorithm.name, algorithm.default_type
    kind = kind.upper()
    check_type(algorithm, kind)
    return algorithm.name, kind


def check_type(algorithm: Algorithm, kind: str) -> None:
    """Check that *algorithm* can be of type *kind*. Raises S3Error InvalidRequest."""
    if kind not in (FULL_OBJECT, COMPOSITE):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    possible = (
        kind == COMPOSITE
        if algorithm.combine is None
        else (kind == FULL_OBJECT or algorithm.name != "crc64nvme")
    )
    if not possible:
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.name} checksum "
            "algorithm.",
        )


def encode(digest: bytes) -> str:
    """Base64, as in headers and documents."""
    return base64.b64encode(digest).decode("ascii")


def compute(algorithm: Algorithm, data: Buffer) -> str:
    """The base64 checksum of *data*."""
    hasher = algorithm.new()
    hasher.update(data)
    return encode(hasher.digest())


def composite(algorithm: Algorithm, part_values: Sequence[str]) -> str:
    """The checksum of checksums: over the parts' digests end to end, and ``-N``.

    *part_values* are base64, as stored.
    """
    hasher = algorithm.new()
    for value in part_values:
        hasher.update(base64.b64decode(value))
    return f"{encode(hasher.digest())}-{len(part_values)}"


def combine_full_object(algorithm: Algorithm, parts: Iterable[tuple[str, int]]) -> str:
    """The CRC of a whole object from its parts' (base64 CRC, length in bytes), without its bytes.

    Only for algorithms with ``combine``.
    """
    combine = algorithm.combine
    assert combine is not None
    whole = 0
    for value, length_bytes in parts:
        whole = combine(whole, int.from_bytes(base64.b64decode(value), "big"), length_bytes)
    return encode(whole.to_bytes(algorithm.size_bytes, "big"))


def split_composite(value: str) -> tuple[str, int]:
    """Split ``value-N`` into base64 and N; N is 0 if *value* has no number."""
    match = _COMPOSITE_FORM.fullmatch(value)
    return (match[1], int(match[2])) if match else (value, 0)


def _decode(value: str, size_bytes: int) -> bytes | None:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == size_bytes else None
