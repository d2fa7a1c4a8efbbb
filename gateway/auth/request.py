"""What signature checks see of a request, and what they answer. Pure records."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ..headers import Headers
from .credentials import Credentials
from .signing_key import CheckingKey


class SignedRequest(NamedTuple):
    """A request as it stood on the wire: nothing decoded, header names in lower case."""

    method: str
    raw_path: str
    """As in the request line, without the query."""
    raw_query: str
    headers: Headers


class Payload(Enum):
    """How the body is covered by the signature."""

    LITERAL = "LITERAL"
    """Its SHA-256 is signed: compare it at the end of the body."""
    UNSIGNED = "UNSIGNED-PAYLOAD"
    CHUNKS_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    CHUNKS_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    CHUNKS_SIGNED_ASYMMETRIC = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
    CHUNKS_SIGNED_ASYMMETRIC_TRAILER = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"
    CHUNKS_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    @property
    def is_chunked(self) -> bool:
        """Whether the body is framed as aws-chunked."""
        return self in _CHUNKED

    @property
    def has_signed_chunks(self) -> bool:
        """Whether each chunk has a signature."""
        return self in _SIGNED_CHUNKS

    @property
    def has_trailer(self) -> bool:
        """Whether headers follow behind the chunks."""
        return self in _TRAILERS

    @property
    def is_asymmetric(self) -> bool:
        """Whether those signatures are of Version 4A."""
        return self in _ASYMMETRIC


_ASYMMETRIC = frozenset(
    {Payload.CHUNKS_SIGNED_ASYMMETRIC, Payload.CHUNKS_SIGNED_ASYMMETRIC_TRAILER}
)
_SIGNED_CHUNKS = _ASYMMETRIC | {Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER}
_CHUNKED = _SIGNED_CHUNKS | {Payload.CHUNKS_UNSIGNED_TRAILER}
_TRAILERS = _CHUNKED - {Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_ASYMMETRIC}


class ChunkSigning(NamedTuple):
    """What the first chunk's signature builds on."""

    key: CheckingKey
    timestamp: str
    scope: str
    seed_signature: str
    algorithm: str = "AWS4-HMAC-SHA256"


class Authentication(NamedTuple):
    """A request whose signature held."""

    credentials: Credentials
    payload: Payload
    content_sha256: str
    """Payload.LITERAL: the hex digest that the body must have; else empty."""
    chunk_signing: ChunkSigning | None
    """For the chunk decoder, where chunks are signed."""
    presigned: bool
    hoisted_headers: Mapping[str, str]
    """Presigned: ``x-amz-*`` query parameters that stand for headers, in lower case."""
