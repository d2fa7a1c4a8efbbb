"""What each S3 operation does, by resource. An operation that is not in HANDLERS answers 501."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..exchange import Exchange
from ..reply import Reply, Sent
from . import (
    access,
    buckets,
    copies,
    deletes,
    forms,
    listing,
    locks,
    multipart,
    object_attributes,
    reads,
    renames,
    select,
    settings,
    tags,
    versions,
    writes,
)

Handler = Callable[[Exchange], Awaitable[Reply | Sent]]

HANDLERS: dict[str, Handler] = {
    "ListBuckets": buckets.list_buckets,
    "CreateBucket": buckets.create_bucket,
    "HeadBucket": buckets.head_bucket,
    "DeleteBucket": buckets.delete_bucket,
    "GetBucketLocation": buckets.get_location,
    "GetBucketVersioning": versions.get_versioning,
    "PutBucketVersioning": versions.put_versioning,
    "GetObjectLockConfiguration": locks.get_configuration,
    "PutObjectLockConfiguration": locks.put_configuration,
    "ListObjects": listing.list_v1,
    "ListObjectsV2": listing.list_v2,
    "ListObjectVersions": versions.list_versions,
    "PostObject": forms.post_object,
    "PutObject": writes.put_object,
    "GetObject": reads.get_object,
    "HeadObject": reads.head_object,
    "CopyObject": copies.copy_object,
    "DeleteObject": deletes.delete_object,
    "DeleteObjects": deletes.delete_objects,
    "RenameObject": renames.rename_object,
    "GetObjectAttributes": object_attributes.get_object_attributes,
    "GetObjectTagging": tags.get_tags,
    "PutObjectTagging": tags.put_tags,
    "DeleteObjectTagging": tags.delete_tags,
    "GetObjectRetention": locks.get_retention,
    "PutObjectRetention": locks.put_retention,
    "GetObjectLegalHold": locks.get_legal_hold,
    "PutObjectLegalHold": locks.put_legal_hold,
    "CreateMultipartUpload": multipart.create,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": copies.copy_part,
    "ListParts": multipart.list_parts,
    "ListMultipartUploads": multipart.list_uploads,
    "CompleteMultipartUpload": multipart.complete,
    "AbortMultipartUpload": multipart.abort,
    **access.HANDLERS,
    "SelectObjectContent": select.select_object_content,
    **settings.HANDLERS,
}
