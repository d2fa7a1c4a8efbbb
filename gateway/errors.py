"""Every S3 error: code, status, message. The one place where core errors become S3 errors.

Pure. Handlers raise ``S3Error`` or let a ``CraqenError`` rise; the edge of the server calls
``from_core`` and writes the document, with no body for HEAD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..core import errors as core
from .times import NANOSECONDS, http_date
from .xml_text import XML_DECLARATION, escape


class ErrorKind(NamedTuple):
    status: int
    message: str


_CONFLICT = (
    "A conflicting operation is currently in progress against this resource. Please try again."
)

ERRORS: dict[str, ErrorKind] = {
    # who asks
    "AccessDenied": ErrorKind(403, "Access Denied"),
    "AuthorizationHeaderMalformed": ErrorKind(
        400, "The authorization header that you provided is not valid."
    ),
    "AuthorizationQueryParametersError": ErrorKind(
        400, "The authorization query parameters that you provided are not valid."
    ),
    "ExpiredToken": ErrorKind(400, "The provided token has expired."),
    "InvalidAccessKeyId": ErrorKind(
        403, "The AWS Access Key Id you provided does not exist in our records."
    ),
    "InvalidToken": ErrorKind(400, "The provided token is malformed or otherwise invalid."),
    "MissingSecurityHeader": ErrorKind(400, "Your request was missing a required header."),
    "QuotaExceeded": ErrorKind(403, "The quota leaves no room for this."),
    "RequestTimeTooSkewed": ErrorKind(
        403, "The difference between the request time and the current time is too large."
    ),
    "SignatureDoesNotMatch": ErrorKind(
        403,
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method.",
    ),
    "AccessForbidden": ErrorKind(
        403,
        "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of "
        "Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers "
        "are not whitelisted by the resource's CORS spec.",
    ),
    # keys
    "InvalidEncryptionAlgorithmError": ErrorKind(
        400, "The encryption request you specified is not valid. The valid value is AES256."
    ),
    "KMS.DisabledException": ErrorKind(400, "The key is disabled."),
    "KMS.NotFoundException": ErrorKind(400, "The key does not exist."),
    "AccessControlListNotSupported": ErrorKind(400, "The bucket does not allow ACLs"),
    "InvalidBucketAclWithObjectOwnership": ErrorKind(
        400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
    ),
    "MalformedACLError": ErrorKind(
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedPolicy": ErrorKind(400, "Policies must be valid JSON"),
    "NoSuchBucketPolicy": ErrorKind(404, "The bucket policy does not exist"),
    "NoSuchPublicAccessBlockConfiguration": ErrorKind(
        404, "The public access block configuration was not found"
    ),
    "OwnershipControlsNotFoundError": ErrorKind(
        404, "The bucket ownership controls were not found"
    ),
    "UnexpectedContent": ErrorKind(400, "This request does not support content"),
    "UnresolvableGrantByEmailAddress": ErrorKind(
        400, "The e-mail address you provided does not match any account on record."
    ),
    "PolicyTooLarge": ErrorKind(400, "Policy exceeds the maximum allowed document size."),
    # what is asked
    "BadRequest": ErrorKind(400, "Bad Request"),
    "EntityTooLarge": ErrorKind(
        400, "Your proposed upload exceeds the maximum allowed object size."
    ),
    "EntityTooSmall": ErrorKind(
        400, "Your proposed upload is smaller than the minimum allowed size"
    ),
    "IllegalVersioningConfigurationException": ErrorKind(
        400,
        "The Versioning element must be specified",
    ),
    "IdempotencyParameterMismatch": ErrorKind(
        400,
        "Parameters on this idempotent request are inconsistent with parameters used in previous "
        "request(s).",
    ),
    "IllegalLocationConstraintException": ErrorKind(
        400,
        "The unspecified location constraint is incompatible for the region specific endpoint "
        "this request was sent to.",
    ),
    "InvalidArgument": ErrorKind(400, "Invalid Argument"),
    "InvalidBucketName": ErrorKind(400, "The specified bucket is not valid."),
    "InvalidBucketState": ErrorKind(
        409, "The request is not valid with the current state of the bucket."
    ),
    "InvalidLocationConstraint": ErrorKind(400, "The specified location-constraint is not valid"),
    "InvalidPart": ErrorKind(
        400,
        "One or more of the specified parts could not be found.  The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartOrder": ErrorKind(
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidPolicyDocument": ErrorKind(
        400,
        "The content of the form does not meet the conditions specified in the policy document.",
    ),
    "InvalidRange": ErrorKind(416, "The requested range is not satisfiable"),
    "InvalidRequest": ErrorKind(400, "Invalid Request"),
    "InvalidRetentionPeriod": ErrorKind(400, "The retention period is not valid"),
    "InvalidStorageClass": ErrorKind(400, "The storage class you specified is not valid"),
    "InvalidTag": ErrorKind(400, "The tag provided was not a valid tag."),
    "InvalidTargetBucketForLogging": ErrorKind(400, "The target bucket for logging does not exist"),
    "InvalidURI": ErrorKind(400, "Couldn't parse the specified URI."),
    "InvalidWriteOffset": ErrorKind(
        400, "The write offset value that you specified does not match the current object size."
    ),
    "KeyTooLongError": ErrorKind(400, "Your key is too long"),
    "MalformedPOSTRequest": ErrorKind(
        400, "The body of your POST request is not well-formed multipart/form-data."
    ),
    "MalformedXML": ErrorKind(
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MaxPostPreDataLengthExceededError": ErrorKind(
        400, "Your POST request fields preceding the upload file were too large."
    ),
    "MaxMessageLengthExceeded": ErrorKind(400, "Your request was too big."),
    "MetadataTooLarge": ErrorKind(
        400, "Your metadata headers exceed the maximum allowed metadata size"
    ),
    "MethodNotAllowed": ErrorKind(
        405, "The specified method is not allowed against this resource."
    ),
    "NotImplemented": ErrorKind(
        501, "A header you provided implies functionality that is not implemented"
    ),
    "RequestHeaderSectionTooLarge": ErrorKind(
        400, "Your request header section exceeds the maximum allowed size."
    ),
    "TooManyParts": ErrorKind(400, "You have attempted to use more parts than is allowed."),
    "UserKeyMustBeSpecified": ErrorKind(400, "The key of an object must be given."),
    # the body
    "BadDigest": ErrorKind(400, "The Content-MD5 you specified did not match what we received."),
    "IncompleteBody": ErrorKind(
        400, "You did not provide the number of bytes specified by the Content-Length HTTP header"
    ),
    "InvalidDigest": ErrorKind(400, "The Content-MD5 you specified was invalid."),
    "MalformedTrailerError": ErrorKind(
        400,
        "The request contained trailing data that was not well-formed or did not conform to our "
        "published schema.",
    ),
    "MissingContentLength": ErrorKind(411, "You must provide the Content-Length HTTP header."),
    "MissingRequestBodyError": ErrorKind(400, "Request body is empty."),
    "RequestTimeout": ErrorKind(
        400,
        "Your socket connection to the server was not read from or written to within the timeout "
        "period. Idle connections will be closed.",
    ),
    "XAmzContentSHA256Mismatch": ErrorKind(
        400, "The provided 'x-amz-content-sha256' header does not match what was computed."
    ),
    # what is there
    "BucketAlreadyExists": ErrorKind(
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": ErrorKind(
        409, "Your previous request to create the named bucket succeeded and you already own it."
    ),
    "BucketNotEmpty": ErrorKind(409, "The bucket you tried to delete is not empty"),
    "ConditionalRequestConflict": ErrorKind(
        409,
        "A conflicting conditional operation is currently in progress against this resource. "
        "Please try again.",
    ),
    "NoSuchBucket": ErrorKind(404, "The specified bucket does not exist"),
    "MetadataConfigurationNotFound": ErrorKind(
        404, "The metadata configuration does not exist for this bucket"
    ),
    "NoSuchConfiguration": ErrorKind(404, "The specified configuration does not exist."),
    "NoSuchCORSConfiguration": ErrorKind(404, "The CORS configuration does not exist"),
    "NoSuchKey": ErrorKind(404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": ErrorKind(404, "The lifecycle configuration does not exist"),
    "NoSuchObjectLockConfiguration": ErrorKind(
        404, "The specified object does not have a ObjectLock configuration"
    ),
    "NoSuchTagSet": ErrorKind(404, "The TagSet does not exist"),
    "NoSuchUpload": ErrorKind(
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
    ),
    "NoSuchVersion": ErrorKind(404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": ErrorKind(
        404, "The specified bucket does not have a website configuration"
    ),
    "ObjectLockConfigurationNotFoundError": ErrorKind(
        404, "Object Lock configuration does not exist for this bucket"
    ),
    "OperationAborted": ErrorKind(409, _CONFLICT),
    "PreconditionFailed": ErrorKind(
        412, "At least one of the pre-conditions you specified did not hold"
    ),
    "ReplicationConfigurationNotFoundError": ErrorKind(
        404, "The replication configuration was not found"
    ),
    "ServerSideEncryptionConfigurationNotFoundError": ErrorKind(
        404, "The server side encryption configuration was not found"
    ),
    # the store
    "InsufficientStorage": ErrorKind(
        507, "The store is full. Delete something or add storage, then try again."
    ),
    "InternalError": ErrorKind(500, "We encountered an internal error. Please try again."),
    "ServiceUnavailable": ErrorKind(503, "The service is not ready. Please try again."),
    "SlowDown": ErrorKind(503, "Please reduce your request rate."),
}


class S3Error(Exception):
    """An answer that is an error.

    *code* is a key of ``ERRORS``; *message* and *status* default to its entry. *fields* become
    further elements of the document, *headers* further headers of the response.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        kind = ERRORS[code]
        self.code = code
        self.message = kind.message if message is None else message
        self.status = kind.status if status is None else status
        self.fields: dict[str, str] = dict(fields) if fields else {}
        self.headers: dict[str, str] = dict(headers) if headers else {}
        super().__init__(f"{self.code}: {self.message}")


def invalid_argument(message: str, *, name: str, value: str) -> S3Error:
    """InvalidArgument with the fields that AWS gives: which argument, and what it was."""
    return S3Error(
        "InvalidArgument", message, fields={"ArgumentName": name, "ArgumentValue": value}
    )


def not_implemented(what: str) -> S3Error:
    """501 for the operation or header *what*, named in the document."""
    return S3Error(
        "NotImplemented",
        f"{what} is not implemented by this release",
        fields={"Header": what},
    )


def error_document(error: S3Error, *, resource: str, request_id: str, host_id: str) -> bytes:
    """The XML body of *error*. *resource* is the path as it came (undecoded)."""
    parts = [
        XML_DECLARATION,
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>",
    ]
    for name, value in error.fields.items():
        parts.append(f"<{name}>{escape(value)}</{name}>")
    parts.append(
        f"<Resource>{escape(resource)}</Resource><RequestId>{escape(request_id)}</RequestId>"
        f"<HostId>{escape(host_id)}</HostId></Error>"
    )
    return "".join(parts).encode("utf-8")


_CODES: dict[type[core.CraqenError], str] = {
    core.BucketNotFoundError: "NoSuchBucket",
    core.VersionNotFoundError: "NoSuchVersion",
    core.DeleteMarkerError: "NoSuchKey",
    core.BucketStateError: "InvalidBucketState",
    core.UploadNotFoundError: "NoSuchUpload",
    core.NotFoundError: "NoSuchKey",
    core.AlreadyExistsError: "BucketAlreadyOwnedByYou",
    core.NotEmptyError: "BucketNotEmpty",
    core.ObjectLockedError: "AccessDenied",
    core.PermissionDeniedError: "AccessDenied",
    core.NameTooLongError: "KeyTooLongError",
    core.InvalidArgumentError: "InvalidArgument",
    core.QuotaExceededError: "QuotaExceeded",
    core.TokenReusedError: "IdempotencyParameterMismatch",
    core.WriteOffsetError: "InvalidWriteOffset",
    core.PreconditionFailedError: "PreconditionFailed",
    core.InvalidPartError: "InvalidPart",
    core.InvalidPartOrderError: "InvalidPartOrder",
    core.PartTooSmallError: "EntityTooSmall",
    core.StaleHandleError: "OperationAborted",
    core.ChecksumMismatchError: "BadDigest",
    core.UnsupportedError: "NotImplemented",
    core.ProtocolError: "InternalError",
    core.CallerError: "InvalidRequest",
    core.ConflictError: "OperationAborted",
    core.KeyServiceUnavailableError: "ServiceUnavailable",
    core.UnavailableError: "ServiceUnavailable",
    core.RetryableError: "SlowDown",
    core.NoSpaceError: "InsufficientStorage",
    core.OperatorError: "InternalError",
    core.DataLossError: "InternalError",
    core.CraqenError: "InternalError",
}
"""The nearest base of an error's type decides. A test holds this against the whole tree."""

_OWN_WORDS = frozenset(
    {"InvalidArgument", "InvalidRequest", "BadDigest", "NotImplemented", "QuotaExceeded"}
)
"""Codes whose standard message says nothing: the core's own, which names the thing, is better."""

_DATA_LOSS = "Stored bytes of this object are missing or damaged; asking again will not help."


def from_core(
    error: core.CraqenError,
    *,
    bucket: str = "",
    key: bytes = b"",
    upload_id: str = "",
    conditional: bool = False,
) -> S3Error:
    """The S3 error for *error*, with what was asked for in its fields.

    *conditional*: the request carried write conditions, so that a lost race is
    ConditionalRequestConflict rather than OperationAborted.
    """
    code = next(_CODES[base] for base in type(error).__mro__ if base in _CODES)
    message: str | None = None
    fields: dict[str, str] = {}
    headers: dict[str, str] = {}
    if code in _OWN_WORDS and str(error):
        message = str(error)
    elif code == "NoSuchBucket":
        fields["BucketName"] = bucket
    elif code == "NoSuchKey":
        fields["Key"] = key.decode("utf-8", "replace")
        headers["x-amz-delete-marker"] = "false"
    elif code == "NoSuchUpload":
        fields["UploadId"] = upload_id
    elif code == "OperationAborted" and conditional:
        code = "ConditionalRequestConflict"
    elif code in ("SlowDown", "ServiceUnavailable"):
        headers["Retry-After"] = "1"
    if isinstance(error, core.DeleteMarkerError):
        headers["x-amz-delete-marker"] = "true"
        headers["x-amz-version-id"] = error.version_id
        if error.named:
            code, fields = "MethodNotAllowed", {"ResourceType": "DeleteMarker"}
            headers["Allow"] = "DELETE"
            headers["Last-Modified"] = http_date(error.modified_ns // NANOSECONDS)
    elif isinstance(error, core.VersionNotFoundError):
        fields["Key"] = key.decode("utf-8", "replace")
        fields["VersionId"] = error.version_id
    elif isinstance(error, core.ObjectLockedError):
        message = "Access Denied because object protected by object lock."
    elif isinstance(error, core.KeyServiceUnavailableError):
        message = "The key service does not answer, and the object's key cannot be used without it."
    if isinstance(error, core.PreconditionFailedError):
        fields["Condition"] = error.condition
    elif isinstance(error, core.PartTooSmallError):
        fields["PartNumber"] = str(error.part_number)
        fields["ProposedSize"] = str(error.size_bytes)
    elif isinstance(error, core.DataLossError):
        message = _DATA_LOSS
    return S3Error(code, message, fields=fields, headers=headers)
