"""Aspects that no bucket has here, as AWS answers for a bucket where they were never set. Pure.

What would have to work in the background at a provider's (replication to other regions, reports
about objects, storage classes that move by themselves) cannot be switched on: 501 says so, rather
than a setting that is stored and does nothing.
"""

from __future__ import annotations

from .elements import document, element, flag

EMPTY: dict[str, bytes] = {
    "GetBucketAbac": document("AbacStatus", element("Status", "Disabled")),
    "GetBucketAccelerateConfiguration": document("AccelerateConfiguration"),
    "ListBucketAnalyticsConfigurations": document(
        "ListBucketAnalyticsConfigurationResult", flag("IsTruncated", False)
    ),
    "ListBucketIntelligentTieringConfigurations": document(
        "ListBucketIntelligentTieringConfigurationsOutput", flag("IsTruncated", False)
    ),
    "ListBucketInventoryConfigurations": document(
        "ListInventoryConfigurationsResult", flag("IsTruncated", False)
    ),
    "ListBucketMetricsConfigurations": document(
        "ListMetricsConfigurationsResult", flag("IsTruncated", False)
    ),
}
"""The document that answers an operation."""

MISSING: dict[str, str] = {
    "GetBucketAnalyticsConfiguration": "NoSuchConfiguration",
    "GetBucketIntelligentTieringConfiguration": "NoSuchConfiguration",
    "GetBucketInventoryConfiguration": "NoSuchConfiguration",
    "GetBucketMetadataConfiguration": "MetadataConfigurationNotFound",
    "GetBucketMetadataTableConfiguration": "MetadataConfigurationNotFound",
    "GetBucketMetricsConfiguration": "NoSuchConfiguration",
    "GetObjectTorrent": "NoSuchKey",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "DeleteBucketAnalyticsConfiguration": "NoSuchConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "NoSuchConfiguration",
    "DeleteBucketInventoryConfiguration": "NoSuchConfiguration",
    "DeleteBucketMetricsConfiguration": "NoSuchConfiguration",
}
"""The error that answers an operation."""

NOTHING_TO_DELETE = (
    "DeleteBucketMetadataConfiguration",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteBucketReplication",
)
"""Operations that are done before they begin: 204."""

REFUSED: dict[str, str] = {
    "PutBucketAbac": "Attribute-based access control by bucket tags",
    "PutBucketAccelerateConfiguration": "Transfer acceleration",
    "PutBucketAnalyticsConfiguration": "Storage class analysis",
    "PutBucketIntelligentTieringConfiguration": "Intelligent tiering",
    "PutBucketInventoryConfiguration": "Inventory",
    "PutBucketMetricsConfiguration": "A metrics configuration",
    "PutBucketReplication": "Replication to other buckets",
    "CreateBucketMetadataConfiguration": "A metadata table",
    "CreateBucketMetadataTableConfiguration": "A metadata table",
    "UpdateBucketMetadataAnnotationTableConfiguration": "A metadata table",
    "UpdateBucketMetadataInventoryTableConfiguration": "A metadata table",
    "UpdateBucketMetadataJournalTableConfiguration": "A metadata table",
}
"""What an operation would switch on."""
