"""Pure: names that POSIX cannot have, shown under an escape that can be undone.

An entry of the store is ``name`` (a file) or ``name/`` (a directory). In the mount most show as
*name*. The others:

* empty, ``.``, ``..``, with a NUL byte, or beginning with the escape itself: ``.s3~e~`` and the
  name, with ``%``, NUL and
  (where they are the whole name) dots as ``%XX``;
* a file that a directory of the same name hides: ``.s3~f~`` and the name, encoded the same way;
* whatever would be longer than 255 bytes: ``.s3~l~`` (or ``.s3~g~`` for a hidden file) and a digest
  of the name, which the store
  maps back.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from ..errors import NameTooLongError, NotFoundError
from ..limits import NAME_BYTES_MAX

PREFIX = b".s3~"
DIGEST_BYTES = 16


class PosixName(NamedTuple):
    """What a name given by a POSIX call means."""

    name: bytes
    """The stored name without a directory's slash; for a long name its digest."""
    hidden_file: bool
    """Only the file of that name is meant, though there is a directory."""
    is_digest: bool


def digest_of(name: bytes) -> bytes:
    """What stands for a long name."""
    return hashlib.blake2b(name, digest_size=DIGEST_BYTES).digest()


def is_plain(name: bytes) -> bool:
    """Whether *name* shows as itself."""
    return (
        name not in (b"", b".", b"..")
        and len(name) <= NAME_BYTES_MAX
        and not name.startswith(PREFIX)
        and b"\0" not in name
    )


def shown(name: bytes, *, hidden_file: bool) -> bytes:
    """How the stored *name* (without slash) shows in the mount."""
    if not hidden_file and is_plain(name):
        return name
    encoded = PREFIX + (b"f~" if hidden_file else b"e~") + _encode(name)
    if len(encoded) <= NAME_BYTES_MAX:
        return encoded
    return PREFIX + (b"g~" if hidden_file else b"l~") + digest_of(name).hex().encode()


def meant(name: bytes) -> PosixName:
    """What the POSIX *name* means: the inverse of ``shown``.

    Raises NameTooLongError, NotFoundError for something that looks escaped but is not.
    """
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLongError(f"a name of {len(name)} bytes; the limit is {NAME_BYTES_MAX}")
    if not name.startswith(PREFIX):
        return PosixName(name, False, False)
    kind, rest = name[len(PREFIX) : len(PREFIX) + 2], name[len(PREFIX) + 2 :]
    hidden = kind in (b"f~", b"g~")
    if kind in (b"e~", b"f~"):
        plain = _decode(rest)
        if shown(plain, hidden_file=hidden) == name:
            return PosixName(plain, hidden, False)
    elif kind in (b"l~", b"g~") and len(rest) == 2 * DIGEST_BYTES:
        try:
            return PosixName(bytes.fromhex(rest.decode("ascii")), hidden, True)
        except ValueError:
            pass
    raise NotFoundError(f"{name!r}: not a name that this store shows")


def _encode(name: bytes) -> bytes:
    if name in (b".", b".."):
        return name.replace(b".", b"%2E")
    return name.replace(b"%", b"%25").replace(b"\0", b"%00")


def _decode(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text)


_ESCAPED = re.compile(rb"%(25|00|2E)")
