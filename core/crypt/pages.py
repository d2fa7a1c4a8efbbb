"""Encrypted segments: how plaintext becomes stored pages, and back. Pure but for nonces.

A segment's plaintext is cut into pages of PLAIN_PAGE_BYTES. Each is stored as nonce, ciphertext and
tag of AES-256-GCM (NIST SP 800-38D), so that a whole stored page is as long as a checksum page and
lies on the disk's own boundaries; the last one is as short as it can be. The page's number is
authenticated with it, and every segment has a key of its own, derived from the object's data key: a
page moved elsewhere does not decrypt. A range costs the pages that it touches.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ..errors import DataLossError
from ..limits import CHECKSUM_PAGE_BYTES

DATA_KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
PAGE_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
STORED_PAGE_BYTES = CHECKSUM_PAGE_BYTES
PLAIN_PAGE_BYTES = STORED_PAGE_BYTES - PAGE_OVERHEAD_BYTES

_NUMBER = struct.Struct(">Q")


class StoredRange(NamedTuple):
    """The stored bytes that hold a range of a segment's plaintext."""

    first_page: int
    offset: int
    length: int
    skip: int
    """Plaintext bytes of the first page before the range."""


def stored_length(plain_length: int) -> int:
    """How many bytes a segment of *plain_length* bytes takes."""
    return plain_length + -(-plain_length // PLAIN_PAGE_BYTES) * PAGE_OVERHEAD_BYTES


def stored_range(offset: int, length: int, plain_length: int) -> StoredRange:
    """Where ``[offset, offset + length)`` of a segment's *plain_length* bytes lies; it is not
    empty."""
    assert 0 <= offset < offset + length <= plain_length
    first, skip = divmod(offset, PLAIN_PAGE_BYTES)
    last = (offset + length - 1) // PLAIN_PAGE_BYTES
    start = first * STORED_PAGE_BYTES
    end = min((last + 1) * STORED_PAGE_BYTES, stored_length(plain_length))
    return StoredRange(first, start, end - start, skip)


class SegmentCipher:
    """Encrypts and decrypts the pages of one segment."""

    __slots__ = ("_cipher", "_segment_id")

    def __init__(self, data_key: bytes, segment_id: int) -> None:
        """*data_key*: the object's, of DATA_KEY_BYTES. *segment_id* 0: content in a record."""
        assert len(data_key) == DATA_KEY_BYTES
        info = b"craqen segment" + _NUMBER.pack(segment_id)
        self._cipher = AESGCM(HKDFExpand(SHA256(), DATA_KEY_BYTES, info).derive(data_key))
        self._segment_id = segment_id

    def seal(self, plain: memoryview | bytes, page: int, into: memoryview) -> int:
        """Encrypt *plain* as page *page* at the front of *into*; return the stored length."""
        size = len(plain) + PAGE_OVERHEAD_BYTES
        nonce = os.urandom(NONCE_BYTES)
        into[:NONCE_BYTES] = nonce
        self._cipher.encrypt_into(nonce, plain, _NUMBER.pack(page), into[NONCE_BYTES:size])
        return size

    def open(self, stored: memoryview, page: int, into: memoryview) -> int:
        """Decrypt a stored page to the front of *into*; return the plaintext's length.

        Raises DataLossError if the page is not what was stored under this key and number.
        """
        size = len(stored) - PAGE_OVERHEAD_BYTES
        try:
            if size >= 0:
                nonce, sealed = bytes(stored[:NONCE_BYTES]), stored[NONCE_BYTES:]
                self._cipher.decrypt_into(nonce, sealed, _NUMBER.pack(page), into[:size])
                return size
        except InvalidTag:
            pass
        raise DataLossError(
            f"segment {self._segment_id:x}, page {page}: does not decrypt: it was damaged, or "
            f"stored under another key"
        )

    def open_range(self, stored: memoryview, where: StoredRange, into: memoryview) -> None:
        """Fill *into* with the plaintext that *stored*, read from *where*, holds for it. Raises
        DataLossError."""
        done, skip = 0, where.skip
        scratch: memoryview | None = None
        for page, start in enumerate(range(0, len(stored), STORED_PAGE_BYTES), where.first_page):
            sealed = stored[start : start + STORED_PAGE_BYTES]
            size = len(sealed) - PAGE_OVERHEAD_BYTES
            wanted = min(size - skip, len(into) - done)
            if skip == 0 and wanted == size:
                self.open(sealed, page, into[done:])
            else:
                scratch = scratch or memoryview(bytearray(PLAIN_PAGE_BYTES))
                self.open(sealed, page, scratch)
                into[done : done + wanted] = scratch[skip : skip + wanted]
            done += wanted
            skip = 0
        assert done == len(into)


def seal_record(data_key: bytes, plain: bytes) -> bytes:
    """Content that is kept in a record, encrypted."""
    sealed = bytearray(len(plain) + PAGE_OVERHEAD_BYTES)
    SegmentCipher(data_key, 0).seal(plain, 0, memoryview(sealed))
    return bytes(sealed)


def open_record(data_key: bytes, sealed: bytes) -> bytes:
    """What ``seal_record`` encrypted. Raises DataLossError."""
    plain = bytearray(max(0, len(sealed) - PAGE_OVERHEAD_BYTES))
    SegmentCipher(data_key, 0).open(memoryview(sealed), 0, memoryview(plain))
    return bytes(plain)
