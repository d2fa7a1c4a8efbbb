"""What access logs call the operations: ``REST.``, method, resource. Pure.

Names are those in AWS's examples (docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html and
…/enable-cloudtrail-logging-for-s3.html); where there is none, the operation's own in that manner.
"""

from __future__ import annotations

import re

COPY_SOURCE = {"CopyObject": "REST.COPY.OBJECT_GET", "UploadPartCopy": "REST.COPY.PART_GET"}
"""Of the line of a copy's source, in the log of its bucket."""
BATCH_DELETE = "BATCH.DELETE.OBJECT"
"""Of each object that a DeleteObjects names."""

_WHOLE = {
    "CopyObject": "REST.COPY.OBJECT",
    "UploadPartCopy": "REST.COPY.PART",
    "SelectObjectContent": "REST.SELECT.OBJECT",
    "PreflightBucket": "REST.OPTIONS.PREFLIGHT",
    "PreflightObject": "REST.OPTIONS.PREFLIGHT",
}

_RESOURCES = {
    **dict.fromkeys(("GetObject", "HeadObject", "PutObject", "DeleteObject"), "OBJECT"),
    "PostObject": "OBJECT",
    **dict.fromkeys(
        ("ListObjects", "ListObjectsV2", "HeadBucket", "CreateBucket", "DeleteBucket"), "BUCKET"
    ),
    "ListObjectVersions": "BUCKETVERSIONS",
    "DeleteObjects": "MULTI_OBJECT_DELETE",
    "UploadPart": "PART",
    **dict.fromkeys(("CreateMultipartUpload", "ListMultipartUploads"), "UPLOADS"),
    **dict.fromkeys(("CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"), "UPLOAD"),
    **dict.fromkeys(("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"), "BUCKETPOLICY"),
    **dict.fromkeys(("GetBucketAcl", "PutBucketAcl", "GetObjectAcl", "PutObjectAcl"), "ACL"),
    **dict.fromkeys(("GetBucketLogging", "PutBucketLogging"), "LOGGING_STATUS"),
    **dict.fromkeys(
        ("GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"), "OBJECT_TAGGING"
    ),
    **dict.fromkeys(("GetObjectRetention", "PutObjectRetention"), "OBJECT_LOCK_RETENTION"),
    **dict.fromkeys(("GetObjectLegalHold", "PutObjectLegalHold"), "OBJECT_LOCK_LEGALHOLD"),
    "GetObjectAttributes": "OBJECT_ATTRIBUTES",
    "RenameObject": "OBJECT_RENAME",
}

_VERBS = re.compile(r"^(Get|Put|Delete|List|Create|Update)(Bucket)?|Configuration$")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def name_of(operation: str, method: str) -> str:
    """The name of a request's operation (by S3's model; empty: none that there is)."""
    whole = _WHOLE.get(operation)
    if whole is not None:
        return whole
    resource = _RESOURCES.get(operation)
    if resource is None:
        resource = _HUMPS.sub("_", _VERBS.sub("", operation)).upper() or "UNKNOWN"
    return f"REST.{method}.{resource}"
