"""All digests of one request body, computed as it arrives and compared at its end. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..auth.request import Authentication
from ..errors import S3Error
from ..headers import Headers
from .checksums import (
    Algorithm,
    Buffer,
    Hasher,
    StatedChecksum,
    check_value,
    content_md5,
    encode,
    stated_checksum,
)

SLOW_ALGORITHMS = frozenset({"sha1", "sha256", "sha512"})
"""Worth a thread of their own beside MD5; the others take less than handing work to one."""


class BodyResult(NamedTuple):
    """What a verified body came to."""

    length_bytes: int
    md5: str
    """Hex; the ETag of an object put in one piece."""
    checksums: dict[str, str]
    """The stated or default checksum first, then the one asked for besides: algorithm name to
    base64; empty if there was none."""


class BodyVerifier:
    """Digests a body: MD5, the stated checksum, and the signed SHA-256 where there is one.

    Give it every piece in order, one call at a time; the calls may come from any thread, so that a
    worker can digest one buffer while the next is received. Use either ``update``, or each of
    ``lanes`` with every piece: the lanes share nothing, so that two workers can run them at once.
    """

    def __init__(
        self,
        *,
        checksum: StatedChecksum | None = None,
        default: Algorithm | None = None,
        also: Algorithm | None = None,
        expected_md5: bytes | None = None,
        expected_sha256: str = "",
        length_bytes: int | None = None,
    ) -> None:
        """*default*: computed if no *checksum* is stated; *also*: in any case. *expected_sha256*:
        hex, from the signature. *length_bytes*: what must have come in all; None: whatever comes.
        """
        self._checksum = checksum
        self._expected_md5 = expected_md5
        self._expected_sha256 = expected_sha256
        self._expected_length_bytes = length_bytes
        self._length_bytes = 0
        self._md5: Hasher = hashlib.md5(usedforsecurity=False)
        self._sha256: Hasher | None = hashlib.sha256() if expected_sha256 else None
        self._algorithm = checksum.algorithm if checksum is not None else default
        others: list[Hasher] = [self._sha256] if self._sha256 is not None else []
        self._checksums: dict[str, Hasher] = {}
        for algorithm in (self._algorithm, also):
            if algorithm is not None and algorithm.name not in self._checksums:
                self._checksums[algorithm.name] = self._hasher_of(algorithm, others)
        self._others = tuple(others)
        slow = self._algorithm is not None and self._algorithm.name in SLOW_ALGORITHMS
        self.lanes: tuple[Callable[[Buffer], None], ...] = (
            (self._update_md5, self._update_others)
            if others and (slow or self._sha256 is not None)
            else (self.update,)
        )
        """The work of ``update`` in parts that may run at the same time."""

    @classmethod
    def for_request(
        cls,
        headers: Headers,
        authentication: Authentication,
        *,
        length_bytes: int | None,
        checksum_required: bool = False,
        default: Algorithm | None = None,
        also: Algorithm | None = None,
    ) -> BodyVerifier:
        """The verifier for a request's body, from its headers and signature.

        *length_bytes*: of the payload (Content-Length, or the decoded length of aws-chunked).
        Raises S3Error: InvalidRequest, BadDigest (checksum headers), InvalidDigest (Content-MD5).
        """
        return cls(
            checksum=stated_checksum(headers, required=checksum_required),
            default=default,
            also=also,
            expected_md5=content_md5(headers),
            expected_sha256=authentication.content_sha256,
            length_bytes=length_bytes,
        )

    def _hasher_of(self, algorithm: Algorithm, others: list[Hasher]) -> Hasher:
        """One that is there anyway, or a new one, added to *others*."""
        if algorithm.name == "md5":
            return self._md5
        if algorithm.name == "sha256" and self._sha256 is not None:
            return self._sha256
        hasher = algorithm.new()
        others.append(hasher)
        return hasher

    def update(self, data: Buffer) -> None:
        """Digest the next piece. Releases the GIL for large ones."""
        self._update_md5(data)
        self._update_others(data)

    def _update_md5(self, data: Buffer) -> None:
        self._length_bytes += len(data)
        self._md5.update(data)

    def _update_others(self, data: Buffer) -> None:
        for hasher in self._others:
            hasher.update(data)

    def finish(self, trailers: Mapping[str, str] | None = None) -> BodyResult:
        """Compare everything; *trailers* as the chunk decoder gives them.

        Raises S3Error: IncompleteBody, BadDigest, XAmzContentSHA256Mismatch,
        MalformedTrailerError (no value in the trailer).
        """
        expected_length = self._expected_length_bytes
        if expected_length is not None and self._length_bytes != expected_length:
            raise S3Error("IncompleteBody")
        md5 = self._md5.digest()
        if self._expected_md5 is not None and not hmac.compare_digest(md5, self._expected_md5):
            raise S3Error(
                "BadDigest",
                fields={
                    "ExpectedDigest": encode(self._expected_md5),
                    "CalculatedDigest": encode(md5),
                },
            )
        self._compare_sha256()
        return BodyResult(self._length_bytes, md5.hex(), self._finish_checksum(trailers or {}))

    def _compare_sha256(self) -> None:
        if self._sha256 is None:
            return
        computed = self._sha256.digest().hex()
        if not hmac.compare_digest(computed, self._expected_sha256):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                fields={
                    "ClientComputedContentSHA256": self._expected_sha256,
                    "S3ComputedContentSHA256": computed,
                },
            )

    def _finish_checksum(self, trailers: Mapping[str, str]) -> dict[str, str]:
        computed = {name: encode(hasher.digest()) for name, hasher in self._checksums.items()}
        if self._checksum is not None:
            algorithm = self._checksum.algorithm
            expected = self._checksum.value
            if self._checksum.in_trailer:
                expected = trailers.get(algorithm.header, "")
                if not expected:
                    raise S3Error("MalformedTrailerError")
                check_value(algorithm, expected)
            if not hmac.compare_digest(computed[algorithm.name], expected):
                raise S3Error(
                    "BadDigest",
                    f"The {algorithm.label} you specified did not match the calculated checksum.",
                )
        return computed
