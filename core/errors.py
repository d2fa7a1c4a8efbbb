"""The one error tree of Craqen, split by who must act.

* ``CallerError``: the request cannot be carried out as asked; asking again changes nothing.
* ``RetryableError``: nothing is wrong with the request; ask again, perhaps elsewhere.
* ``OperatorError``: a person must act (free space, mend a configuration, install a library).
* ``DataLossError``: stored bytes are missing or damaged; never answered with guessed data.

Programmer errors are assertions. Each edge maps this tree once: the gateway to S3 codes, the mount
to errno, the command line to exit codes. Messages name the thing, the value and the remedy; they
never hold secrets or object data.
"""

from __future__ import annotations

from msgspec import MsgspecError

UNREADABLE: tuple[type[Exception], ...] = (MsgspecError, UnicodeDecodeError, RecursionError)
"""All that decoding of bytes raises which are not what they should be."""


class CraqenError(Exception):
    """Base of every error that Craqen raises on purpose. Never raised itself."""


class CallerError(CraqenError):
    """The request cannot be carried out as asked."""


class NotFoundError(CallerError):
    """No such thing: bucket, key, name, inode, upload or version."""


class BucketNotFoundError(NotFoundError):
    """The named bucket does not exist."""


class VersionNotFoundError(NotFoundError):
    """The object has no such version."""

    def __init__(self, message: str, *, version_id: str) -> None:
        super().__init__(message)
        self.version_id = version_id


class DeleteMarkerError(NotFoundError):
    """The current version, or the one asked for, is a delete marker."""

    def __init__(self, message: str, *, version_id: str, modified_ns: int, named: bool) -> None:
        super().__init__(message)
        self.version_id = version_id
        self.modified_ns = modified_ns
        self.named = named
        """It was asked for by its id."""


class UploadNotFoundError(NotFoundError):
    """The named multipart upload does not exist (any more)."""


class AlreadyExistsError(CallerError):
    """The name is taken."""


class NotDirectoryError(CallerError):
    """A directory was needed here."""


class IsDirectoryError(CallerError):
    """A file was needed here."""


class NotEmptyError(CallerError):
    """The directory or bucket still holds something."""


class PermissionDeniedError(CallerError):
    """The caller may not do this."""


class ObjectLockedError(PermissionDeniedError):
    """Retention or a legal hold forbids to remove or change this version."""


class BucketStateError(CallerError):
    """The bucket's versioning or object lock does not allow this."""


class InvalidArgumentError(CallerError):
    """An argument is outside what is allowed."""


class NameTooLongError(InvalidArgumentError):
    """A name or key is longer than its limit."""


class LimitExceededError(CallerError):
    """A documented bound (links, extents, key or value size, transaction size) would be crossed."""


class QuotaExceededError(CallerError):
    """A quota of the bucket, a folder or the owner leaves no room for this."""


class TokenReusedError(CallerError):
    """A token that makes a request idempotent was used for another one before."""


class WriteOffsetError(CallerError):
    """An append does not begin where the object ends."""

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class PreconditionFailedError(CallerError):
    """A conditional request found another state than the one it named."""

    def __init__(self, message: str, *, condition: str) -> None:
        super().__init__(message)
        self.condition = condition
        """The name of the condition that did not hold, such as ``If-Match``."""


class InvalidPartError(CallerError):
    """A part named on completion was not uploaded, or with another ETag."""


class InvalidPartOrderError(CallerError):
    """The parts named on completion are not in ascending order."""


class PartTooSmallError(CallerError):
    """A part other than the last is under the minimum size."""

    def __init__(self, message: str, *, part_number: int, size_bytes: int) -> None:
        super().__init__(message)
        self.part_number = part_number
        self.size_bytes = size_bytes


class StaleHandleError(CallerError):
    """The inode behind a handle was removed or replaced."""


class ChecksumMismatchError(CallerError):
    """The bytes received do not have the checksum the caller stated."""


class CrossDeviceError(CallerError):
    """A directory cannot be renamed from one bucket into another: copy it and remove the old
    one."""


class UnsupportedError(CallerError):
    """A correct request for something that this release does not do."""


class ProtocolError(CallerError):
    """A frame or message broke the wire protocol; the connection is closed."""


class RetryableError(CraqenError):
    """Nothing is wrong with the request: ask again, perhaps elsewhere."""


class ConflictError(RetryableError):
    """Another transaction or request won the race."""


class TransactionTooOldError(RetryableError):
    """The transaction lived longer than its limit (5 s, as in FoundationDB)."""


class StaleChainVersionError(RetryableError):
    """The chain has moved on: refresh the routing table and ask again."""

    def __init__(self, message: str, *, chain_id: int, current_version: int) -> None:
        super().__init__(message)
        self.chain_id = chain_id
        self.current_version = current_version


class UnavailableError(RetryableError):
    """A service does not answer, or is not ready to."""


class KeyServiceUnavailableError(UnavailableError):
    """The service that keeps the encryption keys does not answer, or not as it should."""


class DeadlineExceededError(UnavailableError):
    """No answer within the deadline."""


class ChunkBusyError(RetryableError):
    """Another update of this chunk is in flight."""


class OperatorError(CraqenError):
    """A person must act before this can work."""


class NoSpaceError(OperatorError):
    """The disk or the store is full."""


class ConfigError(OperatorError):
    """The configuration is wrong: names file, key, value and what was expected."""


class MissingDependencyError(OperatorError):
    """A library that this needs is not installed: names it and how to install it."""


class DiskError(OperatorError):
    """A disk operation failed."""


class DataLossError(CraqenError):
    """Stored bytes are missing or damaged."""
