"""The operations of S3 by (method, level, subresource): the tables of routing, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

SERVICE, BUCKET, OBJECT = 0, 1, 2

FORM_UPLOAD = "PostObject"
"""Upload by an HTML form; not in the service model."""

PREFLIGHTS = frozenset({"PreflightBucket", "PreflightObject"})
"""What a browser asks before it sends a page's request; not in the service model."""

_ROWS: dict[int, dict[str, dict[str, str]]] = {
    SERVICE: {
        "": {"GET": "ListBuckets"},
        "max-directory-buckets": {"GET": "ListDirectoryBuckets"},
    },
    BUCKET: {
        "": {
            "GET": "ListObjects",
            "HEAD": "HeadBucket",
            "PUT": "CreateBucket",
            "DELETE": "DeleteBucket",
            "POST": FORM_UPLOAD,
            "OPTIONS": "PreflightBucket",
        },
        "list-type": {"GET": "ListObjectsV2"},
        "versions": {"GET": "ListObjectVersions"},
        "uploads": {"GET": "ListMultipartUploads"},
        "location": {"GET": "GetBucketLocation"},
        "delete": {"POST": "DeleteObjects"},
        "abac": {"GET": "GetBucketAbac", "PUT": "PutBucketAbac"},
        "accelerate": {
            "GET": "GetBucketAccelerateConfiguration",
            "PUT": "PutBucketAccelerateConfiguration",
        },
        "acl": {"GET": "GetBucketAcl", "PUT": "PutBucketAcl"},
        "analytics": {
            "GET": "GetBucketAnalyticsConfiguration",
            "PUT": "PutBucketAnalyticsConfiguration",
            "DELETE": "DeleteBucketAnalyticsConfiguration",
        },
        "cors": {"GET": "GetBucketCors", "PUT": "PutBucketCors", "DELETE": "DeleteBucketCors"},
        "encryption": {
            "GET": "GetBucketEncryption",
            "PUT": "PutBucketEncryption",
            "DELETE": "DeleteBucketEncryption",
        },
        "intelligent-tiering": {
            "GET": "GetBucketIntelligentTieringConfiguration",
            "PUT": "PutBucketIntelligentTieringConfiguration",
            "DELETE": "DeleteBucketIntelligentTieringConfiguration",
        },
        "inventory": {
            "GET": "GetBucketInventoryConfiguration",
            "PUT": "PutBucketInventoryConfiguration",
            "DELETE": "DeleteBucketInventoryConfiguration",
        },
        "lifecycle": {
            "GET": "GetBucketLifecycleConfiguration",
            "PUT": "PutBucketLifecycleConfiguration",
            "DELETE": "DeleteBucketLifecycle",
        },
        "logging": {"GET": "GetBucketLogging", "PUT": "PutBucketLogging"},
        "metadataAnnotationTable": {"PUT": "UpdateBucketMetadataAnnotationTableConfiguration"},
        "metadataConfiguration": {
            "GET": "GetBucketMetadataConfiguration",
            "POST": "CreateBucketMetadataConfiguration",
            "DELETE": "DeleteBucketMetadataConfiguration",
        },
        "metadataInventoryTable": {"PUT": "UpdateBucketMetadataInventoryTableConfiguration"},
        "metadataJournalTable": {"PUT": "UpdateBucketMetadataJournalTableConfiguration"},
        "metadataTable": {
            "GET": "GetBucketMetadataTableConfiguration",
            "POST": "CreateBucketMetadataTableConfiguration",
            "DELETE": "DeleteBucketMetadataTableConfiguration",
        },
        "metrics": {
            "GET": "GetBucketMetricsConfiguration",
            "PUT": "PutBucketMetricsConfiguration",
            "DELETE": "DeleteBucketMetricsConfiguration",
        },
        "notification": {
            "GET": "GetBucketNotificationConfiguration",
            "PUT": "PutBucketNotificationConfiguration",
        },
        "object-lock": {
            "GET": "GetObjectLockConfiguration",
            "PUT": "PutObjectLockConfiguration",
        },
        "ownershipControls": {
            "GET": "GetBucketOwnershipControls",
            "PUT": "PutBucketOwnershipControls",
            "DELETE": "DeleteBucketOwnershipControls",
        },
        "policy": {
            "GET": "GetBucketPolicy",
            "PUT": "PutBucketPolicy",
            "DELETE": "DeleteBucketPolicy",
        },
        "policyStatus": {"GET": "GetBucketPolicyStatus"},
        "publicAccessBlock": {
            "GET": "GetPublicAccessBlock",
            "PUT": "PutPublicAccessBlock",
            "DELETE": "DeletePublicAccessBlock",
        },
        "replication": {
            "GET": "GetBucketReplication",
            "PUT": "PutBucketReplication",
            "DELETE": "DeleteBucketReplication",
        },
        "requestPayment": {"GET": "GetBucketRequestPayment", "PUT": "PutBucketRequestPayment"},
        "session": {"GET": "CreateSession"},
        "tagging": {
            "GET": "GetBucketTagging",
            "PUT": "PutBucketTagging",
            "DELETE": "DeleteBucketTagging",
        },
        "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
        "website": {
            "GET": "GetBucketWebsite",
            "PUT": "PutBucketWebsite",
            "DELETE": "DeleteBucketWebsite",
        },
    },
    OBJECT: {
        "": {
            "GET": "GetObject",
            "HEAD": "HeadObject",
            "PUT": "PutObject",
            "DELETE": "DeleteObject",
            "OPTIONS": "PreflightObject",
        },
        "uploads": {"POST": "CreateMultipartUpload"},
        "uploadId": {
            "GET": "ListParts",
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        },
        "acl": {"GET": "GetObjectAcl", "PUT": "PutObjectAcl"},
        "annotation": {
            "GET": "GetObjectAnnotation",
            "PUT": "PutObjectAnnotation",
            "DELETE": "DeleteObjectAnnotation",
        },
        "attributes": {"GET": "GetObjectAttributes"},
        "encryption": {"PUT": "UpdateObjectEncryption"},
        "legal-hold": {"GET": "GetObjectLegalHold", "PUT": "PutObjectLegalHold"},
        "renameObject": {"PUT": "RenameObject"},
        "restore": {"POST": "RestoreObject"},
        "retention": {"GET": "GetObjectRetention", "PUT": "PutObjectRetention"},
        "select": {"POST": "SelectObjectContent"},
        "tagging": {
            "GET": "GetObjectTagging",
            "PUT": "PutObjectTagging",
            "DELETE": "DeleteObjectTagging",
        },
        "torrent": {"GET": "GetObjectTorrent"},
    },
}

OPERATIONS: dict[tuple[str, int, str], str] = {
    (method, level, subresource): operation
    for level, subresources in _ROWS.items()
    for subresource, methods in subresources.items()
    for method, operation in methods.items()
}
"""(method, level, subresource) to operation name."""

SUBRESOURCES: frozenset[str] = frozenset(
    subresource for subresources in _ROWS.values() for subresource in subresources if subresource
)
"""Query parameters that choose the operation."""

ALLOWED_METHODS: dict[tuple[int, str], tuple[str, ...]] = {
    (level, subresource): tuple(sorted(methods))
    for level, subresources in _ROWS.items()
    for subresource, methods in subresources.items()
}
"""For the Allow header of 405."""

PARAMETERS: frozenset[str] = frozenset(
    {
        "annotation-prefix",
        "annotationName",
        "AWSAccessKeyId",
        "bucket-region",
        "continuation-token",
        "delimiter",
        "encoding-type",
        "Expires",
        "fetch-owner",
        "id",
        "key-marker",
        "marker",
        "max-annotation-results",
        "max-buckets",
        "max-keys",
        "max-parts",
        "max-uploads",
        "part-number-marker",
        "partNumber",
        "prefix",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "select-type",
        "Signature",
        "start-after",
        "upload-id-marker",
        "version-id-marker",
        "versionId",
    }
)
"""Parameters that an operation reads, or that sign it: they never choose one. With those, an empty
value means nothing special. Names that begin with ``x-`` are such too."""


class Listing(NamedTuple):
    """The operation meant when *parameter*, which names one member, is absent."""

    parameter: str
    operation: str


WITHOUT_NAMED_MEMBER: dict[str, Listing] = {
    "GetBucketAnalyticsConfiguration": Listing("id", "ListBucketAnalyticsConfigurations"),
    "GetBucketIntelligentTieringConfiguration": Listing(
        "id", "ListBucketIntelligentTieringConfigurations"
    ),
    "GetBucketInventoryConfiguration": Listing("id", "ListBucketInventoryConfigurations"),
    "GetBucketMetricsConfiguration": Listing("id", "ListBucketMetricsConfigurations"),
    "GetObjectAnnotation": Listing("annotationName", "ListObjectAnnotations"),
}
