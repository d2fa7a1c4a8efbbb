"""``craqen bench s3``: the S3 door measured beside nginx, a bare handler and hashlib, in one
run."""
