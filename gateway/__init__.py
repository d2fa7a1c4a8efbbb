"""The S3 door: HTTP requests to namespace and data calls. Knows core; core does not know it."""
