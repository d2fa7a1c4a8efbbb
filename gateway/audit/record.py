"""Audit records in the shape of CloudTrail's: docs.aws.amazon.com/awscloudtrail/latest/userguide/
cloudtrail-event-reference-record-contents.html. Pure.

What a record says of a request is chosen by name, never by leaving things out: a header, a query
parameter or a form field that nothing here names is not written, so no secret can be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ...core.identity.records import Identity, Principal
from ..operations import PARAMETERS, SUBRESOURCES
from ..times import iso_seconds
from .facts import S3, Facts

EVENT_VERSION = "1.11"
TEXT_CHARACTERS_MAX = 2048
"""Of each text that the client chose; the rest is cut off."""

_SIGNING = frozenset({"AWSAccessKeyId", "Expires", "Signature"})
_QUERY = (PARAMETERS | SUBRESOURCES | {"uploadId", "list-type"}) - _SIGNING
_HEADERS = frozenset(
    {
        "x-amz-acl",
        "x-amz-bypass-governance-retention",
        "x-amz-copy-source",
        "x-amz-expected-bucket-owner",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-object-lock-legal-hold",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-retain-until-date",
        "x-amz-object-ownership",
        "x-amz-rename-source",
        "x-amz-request-payer",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-tagging",
        "x-amz-write-offset-bytes",
    }
)
_LIST_FIELD = re.compile(r"(?:(?:member|entry)\.\d{1,4}(?:\.(?:Key|Value|key|value|arn))?)?")
"""What may follow the dot in the name of a form's field: a part of a list."""

_FORM = frozenset(
    {
        "AccessKeyId",
        "AssumeRolePolicyDocument",
        "ClientID",
        "ClientIDList",
        "Description",
        "DurationSeconds",
        "EntityFilter",
        "GroupName",
        "Marker",
        "MaxItems",
        "MaxSessionDuration",
        "NewGroupName",
        "NewPath",
        "NewUserName",
        "OnlyAttached",
        "OpenIDConnectProviderArn",
        "Path",
        "PathPrefix",
        "PermissionsBoundary",
        "Policy",
        "PolicyArn",
        "PolicyArns",
        "PolicyDocument",
        "PolicyName",
        "PolicyUsageFilter",
        "RoleArn",
        "RoleName",
        "RoleSessionName",
        "Scope",
        "SetAsDefault",
        "SourceIdentity",
        "Status",
        "TagKeys",
        "Tags",
        "ThumbprintList",
        "TransitiveTagKeys",
        "Url",
        "UserName",
        "VersionId",
    }
)
_READS = ("Get", "Head", "List", "Preflight", "Select", "Simulate", "Generate")
_ACCOUNT = "000000000000"
_OBJECT_LEVEL = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "DeleteObjects",
        "ListMultipartUploads",
        "ListObjects",
        "ListObjectsV2",
        "ListObjectVersions",
        "PostObject",
    }
)
"""Operations about content, beside all that name a key: CloudTrail's data events."""


def render(facts: Facts, event_id: str) -> bytes:
    """The record as a line of JSON."""
    identity = facts.identity
    arn = f"arn:aws:s3:::{_text(facts.bucket)}"
    resources = [{"type": "AWS::S3::Bucket", "ARN": arn}] if facts.bucket else []
    if resources and facts.bucket_account:
        resources[0]["accountId"] = facts.bucket_account
    if facts.key:
        resources.insert(0, {"type": "AWS::S3::Object", "ARN": f"{arn}/{_text(facts.key)}"})
    is_data = bool(facts.key) or facts.operation in _OBJECT_LEVEL
    record: dict[str, object] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": _user_identity(facts),
        "eventTime": iso_seconds(facts.time_ns // 1_000_000_000),
        "eventSource": f"{facts.service}.amazonaws.com",
        "eventName": _text(facts.operation) or "InvalidRequest",
        "awsRegion": facts.region,
        "sourceIPAddress": facts.address,
        "userAgent": _text(facts.headers.get("user-agent", "")),
    }
    if facts.error_code:
        record["errorCode"] = facts.error_code
        record["errorMessage"] = _text(facts.error_message)
    record |= {
        "requestParameters": _request_parameters(facts),
        "responseElements": None,
        "additionalEventData": _additional(facts),
        "requestID": facts.request_id,
        "eventID": event_id,
        "readOnly": facts.operation.startswith(_READS),
        "resources": resources,
        "eventType": "AwsApiCall",
        "managementEvent": not is_data,
        "recipientAccountId": facts.bucket_account
        or (identity.account_id if identity is not None else "")
        or _ACCOUNT,
        "eventCategory": "Data" if is_data else "Management",
    }
    if facts.tls[0]:
        record["tlsDetails"] = {
            "tlsVersion": facts.tls[0],
            "cipherSuite": facts.tls[1],
            "clientProvidedHostHeader": _text(facts.headers.get("host", "")),
        }
    return msgspec.json.encode(record) + b"\n"


def _user_identity(facts: Facts) -> dict[str, object]:
    identity = facts.identity
    if identity is None:
        return {"type": "Unknown"}
    if identity.principal is Principal.ANONYMOUS:
        return {"type": "AWSAccount", "principalId": "", "accountId": "anonymous"}
    found: dict[str, object] = {
        "type": _TYPES[identity.principal],
        "principalId": identity.user_id,
        "arn": identity.arn,
        "accountId": identity.account_id,
        "accessKeyId": _text(facts.access_key),
    }
    if identity.user_name:
        found["userName"] = identity.user_name
    if identity.session is not None:
        found["sessionContext"] = _session_context(identity)
    return found


_TYPES = {
    Principal.ACCOUNT: "Root",
    Principal.USER: "IAMUser",
    Principal.ROLE: "AssumedRole",
}


def _session_context(identity: Identity) -> dict[str, object]:
    assert identity.session is not None
    session = identity.session
    context: dict[str, object] = {
        "attributes": {
            "creationDate": iso_seconds(session.issued_seconds),
            "mfaAuthenticated": "false",
        }
    }
    if identity.role_arn:
        context["sessionIssuer"] = {
            "type": "Role",
            "principalId": identity.user_id.partition(":")[0],
            "arn": identity.role_arn,
            "accountId": identity.account_id,
            "userName": identity.role_name,
        }
    if session.source_identity:
        context["sourceIdentity"] = session.source_identity
    if session.provider:
        context["webIdFederationData"] = {"federatedProvider": session.provider}
    return context


def _request_parameters(facts: Facts) -> dict[str, str] | None:
    found: dict[str, str] = {}
    if facts.service == S3:
        if facts.bucket:
            found["bucketName"] = _text(facts.bucket)
        if "host" in facts.headers:
            found["Host"] = _text(facts.headers["host"])
        if facts.key:
            found["key"] = _text(facts.key)
        found |= _chosen(facts.parameters, _QUERY)
        found |= {name: _text(value) for name, value in facts.headers.items() if name in _HEADERS}
    else:
        for name, value in facts.parameters.items():
            stem, _, rest = name.partition(".")
            if stem in _FORM and _LIST_FIELD.fullmatch(rest):
                found[name[0].lower() + name[1:]] = _text(value)
    return found or None


def _chosen(parameters: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: _text(value) for name, value in parameters.items() if name in names}


def _additional(facts: Facts) -> dict[str, object]:
    found: dict[str, object] = {
        "bytesTransferredIn": facts.received_bytes,
        "durationMilliseconds": facts.elapsed_ns // 1_000_000,
        "x-amz-id-2": facts.host_id,
    }
    if facts.status:
        found["httpStatusCode"] = facts.status
    if facts.auth_method:
        found["AuthenticationMethod"] = facts.auth_method
        found["SignatureVersion"] = facts.signature_version
    if facts.tls[1]:
        found["CipherSuite"] = facts.tls[1]
    return found


def _text(text: str) -> str:
    """A text as JSON can hold it: bounded, and bytes that are no UTF-8 spelled out."""
    text = text[:TEXT_CHARACTERS_MAX]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
