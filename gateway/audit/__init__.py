"""The audit log: one record for every request to S3, IAM and STS."""
