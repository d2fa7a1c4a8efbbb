"""Pure: which errno a Craqen error is to the caller of a system call; the one place to decide."""

from __future__ import annotations

import errno
from typing import Final

from .errors import (
    AlreadyExistsError,
    CallerError,
    ChecksumMismatchError,
    CraqenError,
    CrossDeviceError,
    DataLossError,
    DeadlineExceededError,
    DiskError,
    InvalidArgumentError,
    IsDirectoryError,
    KeyServiceUnavailableError,
    LimitExceededError,
    NameTooLongError,
    NoSpaceError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    OperatorError,
    PermissionDeniedError,
    QuotaExceededError,
    RetryableError,
    StaleHandleError,
    UnavailableError,
    UnsupportedError,
)

ERRNO_OF: Final[dict[type[CraqenError], int]] = {
    NotFoundError: errno.ENOENT,
    AlreadyExistsError: errno.EEXIST,
    NotDirectoryError: errno.ENOTDIR,
    IsDirectoryError: errno.EISDIR,
    NotEmptyError: errno.ENOTEMPTY,
    PermissionDeniedError: errno.EPERM,
    NameTooLongError: errno.ENAMETOOLONG,
    InvalidArgumentError: errno.EINVAL,
    LimitExceededError: errno.EFBIG,
    QuotaExceededError: errno.EDQUOT,
    StaleHandleError: errno.ESTALE,
    CrossDeviceError: errno.EXDEV,
    UnsupportedError: errno.EOPNOTSUPP,
    ChecksumMismatchError: errno.EIO,
    CallerError: errno.EINVAL,
    DeadlineExceededError: errno.ETIMEDOUT,
    KeyServiceUnavailableError: errno.EIO,
    UnavailableError: errno.EHOSTDOWN,
    RetryableError: errno.EBUSY,
    NoSpaceError: errno.ENOSPC,
    DiskError: errno.EIO,
    OperatorError: errno.EIO,
    DataLossError: errno.EIO,
}
"""A class not named here is what its nearest named base class is."""


def errno_of(error: CraqenError) -> int:
    """The errno of *error*."""
    for kind in type(error).__mro__:
        number = ERRNO_OF.get(kind)
        if number is not None:
            return number
    return errno.EIO
