"""The edge of the native client: errors of the store as OSError."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..core.errno_map import errno_of
from ..core.errors import CraqenError


def os_error(error: CraqenError, path: str = "") -> OSError:
    """*error* as Python's own functions would raise it (FileNotFoundError and the like), its text
    kept as the error's note."""
    number = errno_of(error)
    made = OSError(number, os.strerror(number), path) if path else OSError(number, str(error))
    made.add_note(str(error))
    return made


@contextlib.contextmanager
def as_os_errors(path: str = "") -> Iterator[None]:
    """Errors of the store leave the block as OSError about *path*."""
    try:
        yield
    except CraqenError as error:
        raise os_error(error, path) from error
