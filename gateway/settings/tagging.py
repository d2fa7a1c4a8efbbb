"""The aspect ``tagging``: tags of the bucket itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import documents
from ..errors import S3Error
from ..request_documents import checked_tags, parse_tagging
from .stored import Stored

TAGS_MAX = 50  # as AWS

STORED: Stored[dict[str, str]] = Stored("tagging", dict[str, str])

_SIGNS = frozenset("+-=._:/@")


def parse(body: bytes) -> dict[str, str]:
    """The tags of a Tagging document. Raises S3Error: MalformedXML, InvalidTag,
    MaxMessageLengthExceeded."""
    return _checked(parse_tagging(body, tags_max=TAGS_MAX, kind="Bucket"))


def of_new_bucket(tags: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The tags that a bucket is made with. Raises S3Error InvalidTag."""
    return _checked(checked_tags(list(tags), tags_max=TAGS_MAX, kind="Bucket"))


def _checked(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if not _is_allowed(key):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if not _is_allowed(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
    return tags


def _is_allowed(text: str) -> bool:
    """Letters, numbers and spaces of any script, and a few signs."""
    return all(
        character.isalnum() or character in _SIGNS or character.isspace() for character in text
    )


def render(tags: Mapping[str, str]) -> bytes:
    """Tagging."""
    return documents.tagging(tags)
