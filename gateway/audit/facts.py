"""What is known of a request once it is answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...core.identity.records import Identity
from ..headers import Headers

S3 = "s3"


class Facts(NamedTuple):
    """One request, whatever became of it."""

    request_id: str
    host_id: str
    time_ns: int
    """When its head had arrived, by the wall clock."""
    elapsed_ns: int
    region: str
    service: str
    """``s3``, ``iam`` or ``sts``."""
    operation: str
    """By the service's model; empty if the request is none that there is."""
    headers: Headers
    address: str
    """Where it came from; empty if that cannot be told."""
    identity: Identity | None
    """Who sent it; None if that was not proven."""
    access_key: str
    auth_method: str
    """``AuthHeader``, ``QueryString``, or empty for a request without a signature."""
    signature_version: str
    tls: tuple[str, str]
    """Version and cipher suite; empty without TLS."""
    bucket: str
    bucket_account: str
    """Account of the bucket's owner; empty if that is not known."""
    key: str
    parameters: Mapping[str, str]
    """Of the query, or of the form of an IAM or STS call: all, secrets too."""
    status: int
    """0: the client went away before it had an answer."""
    error_code: str
    error_message: str
    received_bytes: int
