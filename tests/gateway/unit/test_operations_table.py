"""docs/s3.md against the code and the service model: every operation once, in its true state."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import botocore.loaders

from craqen.gateway.handlers import HANDLERS
from craqen.gateway.operations import FORM_UPLOAD, OPERATIONS, WITHOUT_NAMED_MEMBER
from craqen.gateway.settings import absent

PAGE = Path(__file__).resolve().parents[3] / "docs" / "s3.md"
MODEL: dict[str, Any] = botocore.loaders.Loader().load_service_model("s3", "service-2")
OLDER_NAMES = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
"""Deprecated operations have the same requests as those that came after them."""
BY_HEADER = {"CopyObject", "UploadPartCopy", "WriteGetObjectResponse"}
"""Operations that routing finds by something else than method and subresource."""
UNSET = {*absent.EMPTY, *absent.MISSING, *absent.NOTHING_TO_DELETE}


def table() -> dict[str, str]:
    rows = re.findall(r"^\| ([A-Z]\w+) \| (yes|unset|501) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "an operation is there twice"
    return dict(rows)


def test_every_operation_is_in_the_table() -> None:
    assert set(table()) == set(MODEL["operations"])
    assert f"({len(MODEL['operations'])} in the service model" in PAGE.read_text()


def test_the_states_are_true() -> None:
    for operation, state in table().items():
        name = OLDER_NAMES.get(operation, operation)
        works = name in HANDLERS and name not in absent.REFUSED
        expected = "unset" if name in UNSET else "yes" if works else "501"
        assert state == expected, operation


def test_every_operation_is_routed() -> None:
    routed = {*OPERATIONS.values(), *(one.operation for one in WITHOUT_NAMED_MEMBER.values())}
    assert set(MODEL["operations"]) - set(OLDER_NAMES) - BY_HEADER <= routed
    assert set(HANDLERS) <= {*routed, *BY_HEADER, FORM_UPLOAD}
