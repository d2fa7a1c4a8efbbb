"""The aws-chunked body: a decoder without I/O. Pure.

    size-in-hex[;chunk-signature=…] CRLF payload CRLF     any number of times
    0[;chunk-signature=…] CRLF
    [trailer: value LF-or-CRLF]… [x-amz-trailer-signature:… CRLF]
    CRLF

States run ``HEADER → DATA → DATA_END → HEADER … → TRAILER → DONE``. Payload comes out while it
arrives, ahead of the check of its chunk's signature: nothing may be kept before ``finish`` has
returned. Line ends are taken as CRLF or LF, since clients differ on those behind the last chunk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from enum import Enum

from ..errors import S3Error, invalid_argument
from ..headers import Headers
from .request import ChunkSigning, Payload
from .signing_key import CheckingKey

LINE_BYTES_MAX = 1024  # a chunk header has 87 bytes, a trailer with a SHA-512 some 120
TRAILER_LINES_MAX = 16  # S3 knows one checksum and one signature
TRAILER_SIGNATURE = "x-amz-trailer-signature"

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_SIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_ASYMMETRIC_HEADER = re.compile(
    rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{1,144}+)\*{0,144}"
)  # of any length, and so padded to one
_UNSIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?")
_TRAILER_NAME = re.compile(r"[a-z0-9-]+")


class _State(Enum):
    HEADER = "header"
    DATA = "data"
    DATA_END = "data end"
    TRAILER = "trailer"
    DONE = "done"


class ChunkDecoder:
    """Takes the bytes of an aws-chunked body as they come and gives its payload.

    *decoded_length_bytes* is the payload's length as the headers state it; *trailer_names* what
    ``x-amz-trailer`` announced. Not safe for calls at the same time, but it may move between
    threads: hashing releases the GIL for large pieces.
    """

    def __init__(
        self,
        payload: Payload,
        *,
        decoded_length_bytes: int,
        signing: ChunkSigning | None,
        trailer_names: Iterable[str] = (),
    ) -> None:
        assert payload.is_chunked
        self._signed = payload.has_signed_chunks
        self._header = _UNSIGNED_HEADER
        if self._signed:
            self._header = _ASYMMETRIC_HEADER if payload.is_asymmetric else _SIGNED_HEADER
        assert not self._signed or signing is not None
        self._has_trailer = payload.has_trailer
        self._signing = signing
        self._previous_signature = signing.seed_signature if signing else ""
        self._trailer_names = frozenset(trailer_names)
        self._remaining_bytes = decoded_length_bytes
        self._chunk_remaining_bytes = 0
        self._chunk_signature = ""
        self._chunk_hash = hashlib.sha256()
        self._line = bytearray()
        self._state = _State.HEADER
        self._trailer_lines = 0
        self._trailers: dict[str, str] = {}
        self._trailer_text = ""

    @property
    def trailers(self) -> dict[str, str]:
        """Trailers by lower-case name, once ``finish`` has returned; without the signature."""
        return self._trailers

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """Take the next bytes; return the payload among them, as views of *data*.

        Raises S3Error: IncompleteBody (framing, or more payload than stated),
        SignatureDoesNotMatch, MalformedTrailerError. After an error the decoder is spent.
        """
        view = memoryview(data)
        end = len(view)
        position = 0
        pieces: list[memoryview] = []
        while position < end:
            if self._state is _State.DATA:
                piece = view[position : position + self._chunk_remaining_bytes]
                position += len(piece)
                self._take_payload(piece)
                pieces.append(piece)
            else:
                position = self._take_line_bytes(view, position)
        return pieces

    def finish(self) -> None:
        """The body has ended. Raises S3Error IncompleteBody or MalformedTrailerError if that is
        too early."""
        if self._state is _State.TRAILER and not self._line:
            # The closing line end is missing, which some clients leave out.
            self._end_trailer()
        if self._state is not _State.DONE:
            raise _incomplete()

    def _take_payload(self, piece: memoryview) -> None:
        if self._signed:
            self._chunk_hash.update(piece)
        self._chunk_remaining_bytes -= len(piece)
        if self._chunk_remaining_bytes == 0:
            if self._signed:
                self._check_chunk()
            self._state = _State.DATA_END

    def _take_line_bytes(self, view: memoryview, position: int) -> int:
        """Gather bytes up to a line feed; act on the line once it is whole."""
        room = LINE_BYTES_MAX + 1 - len(self._line)
        candidate = bytes(view[position : position + room])
        line_feed = candidate.find(b"\n")
        if line_feed < 0:
            self._line += candidate
            if len(self._line) > LINE_BYTES_MAX:
                raise self._malformed()
            return position + len(candidate)
        line = bytes(self._line) + candidate[:line_feed]
        self._line.clear()
        self._take_line(line.removesuffix(b"\r"))
        return position + line_feed + 1

    def _take_line(self, line: bytes) -> None:
        if self._state is _State.HEADER:
            self._take_header(line)
        elif self._state is _State.DATA_END:
            if line:
                raise self._malformed()
            self._state = _State.HEADER
        elif self._state is _State.TRAILER:
            self._take_trailer(line)
        else:  # DONE: some clients send one empty line too many
            self._count_trailer_line()
            if line:
                raise self._malformed()

    def _take_header(self, line: bytes) -> None:
        match = self._header.fullmatch(line)
        if match is None:
            raise self._malformed()
        size = int(match[1], 16)
        if size > self._remaining_bytes:
            raise _incomplete()
        if self._signed:
            self._chunk_signature = match[2].decode()
            self._chunk_hash = hashlib.sha256()
        self._remaining_bytes -= size
        self._chunk_remaining_bytes = size
        if size:
            self._state = _State.DATA
            return
        if self._remaining_bytes:
            raise _incomplete()
        if self._signed:
            self._check_chunk()
        self._state = _State.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        self._count_trailer_line()
        if not line:
            # In signed mode an empty line may stand between trailers and their signature.
            if not (self._signed and self._has_trailer) or not self._trailer_names:
                self._end_trailer()
            return
        if not self._has_trailer:
            raise self._malformed()
        name, separator, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        if not separator or not _TRAILER_NAME.fullmatch(name) or name in self._trailers:
            raise self._malformed()
        if name == TRAILER_SIGNATURE and self._signed:
            self._check_trailer(value.rstrip("*"))
            self._end_trailer(signature_seen=True)
        elif name in self._trailer_names:
            self._trailers[name] = value
            self._trailer_text += f"{name}:{value}\n"
        else:
            raise self._malformed()

    def _count_trailer_line(self) -> None:
        self._trailer_lines += 1
        if self._trailer_lines > TRAILER_LINES_MAX:
            raise self._malformed()

    def _end_trailer(self, *, signature_seen: bool = False) -> None:
        if self._trailer_names - self._trailers.keys():
            raise self._malformed()
        if self._signed and self._trailers and not signature_seen:
            raise self._malformed()
        self._state = _State.DONE

    def _check_chunk(self) -> None:
        signing = self._signing
        assert signing is not None
        digest = self._chunk_hash.hexdigest()
        to_sign = (
            f"{signing.algorithm}-PAYLOAD\n{signing.timestamp}\n{signing.scope}\n"
            f"{self._previous_signature}\n{_EMPTY_SHA256}\n{digest}"
        )
        self._compare(signing.key, to_sign, self._chunk_signature)

    def _check_trailer(self, signature: str) -> None:
        signing = self._signing
        assert signing is not None
        digest = hashlib.sha256(self._trailer_text.encode("latin-1")).hexdigest()
        to_sign = (
            f"{signing.algorithm}-TRAILER\n{signing.timestamp}\n{signing.scope}\n"
            f"{self._previous_signature}\n{digest}"
        )
        self._compare(signing.key, to_sign, signature)

    def _compare(self, key: CheckingKey, to_sign: str, signature: str) -> None:
        if not key.check(to_sign.encode(), signature):
            raise S3Error(
                "SignatureDoesNotMatch",
                fields={"StringToSign": to_sign, "SignatureProvided": signature},
            )
        self._previous_signature = signature

    def _malformed(self) -> S3Error:
        if self._state in (_State.TRAILER, _State.DONE):
            return S3Error("MalformedTrailerError")
        return _incomplete()


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "The request body terminated unexpectedly")


def decoded_length_bytes(headers: Headers) -> int:
    """The payload's length of an aws-chunked body.

    Raises S3Error: MissingContentLength, InvalidArgument.
    """
    value = headers.get("x-amz-decoded-content-length")
    if value is None:
        raise S3Error("MissingContentLength")
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise invalid_argument(
            "The value of x-amz-decoded-content-length is not a length",
            name="x-amz-decoded-content-length",
            value=value,
        )
    return int(value)


def trailer_names(headers: Headers) -> tuple[str, ...]:
    """The names that ``x-amz-trailer`` announces, in lower case."""
    value = headers.get("x-amz-trailer", "")
    return tuple(name.strip().lower() for name in value.split(",") if name.strip())


def stored_content_encoding(value: str) -> str:
    """A Content-Encoding as the object keeps it: without ``aws-chunked``, which is only framing."""
    codings = [coding.strip() for coding in value.split(",")]
    return ", ".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")
