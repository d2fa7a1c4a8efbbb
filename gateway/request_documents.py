"""Request bodies in XML, as records. Pure. Element order and unknown elements do not matter."""

from __future__ import annotations

from typing import NamedTuple

from ..core.limits import PARTS_MAX
from ..core.meta.records import NO_CONDITIONS, CompletedPart, WriteConditions
from .body.checksums import ALGORITHMS
from .body.digest import unquote_etag
from .conditions import member_conditions
from .errors import S3Error, invalid_argument
from .xml import (
    SMALL_DOCUMENT_BYTES_MAX,
    Element,
    children,
    local_name,
    malformed,
    parse_document,
    texts,
)

DELETE_KEYS_MAX = 1000  # AWS's limit on one DeleteObjects
TAG_KEY_CHARACTERS_MAX = 128
TAG_VALUE_CHARACTERS_MAX = 256
OBJECT_TAGS_MAX = 10

_CHECKSUM_ELEMENTS = {
    f"Checksum{algorithm.label}": algorithm.name for algorithm in ALGORITHMS.values()
}


class DeleteItem(NamedTuple):
    """One object to delete. *key* is not checked for length: a key that cannot exist is deleted."""

    key: bytes
    version_id: str
    """Empty: the current version."""
    conditions: WriteConditions


class DeleteRequest(NamedTuple):
    items: tuple[DeleteItem, ...]
    quiet: bool
    """Report only failures."""


def parse_complete_multipart_upload(body: bytes) -> tuple[CompletedPart, ...]:
    """The parts named, in the order named; of one named again at once, what was said last. Raises
    S3Error: MalformedXML, InvalidArgument, MaxMessageLengthExceeded."""
    root = parse_document(body, "CompleteMultipartUpload")
    parts: list[CompletedPart] = []
    for element in children(root, "Part"):
        part = _completed_part(element)
        if parts and parts[-1].number == part.number:
            parts.pop()
        parts.append(part)
    if not 1 <= len(parts) <= PARTS_MAX:
        raise malformed()
    return tuple(parts)


def _completed_part(element: Element) -> CompletedPart:
    found = texts(element)
    etag = found.get("ETag")
    number = found.get("PartNumber", "").strip()
    if etag is None or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise malformed()
    if not 1 <= int(number) <= PARTS_MAX:
        raise invalid_argument(
            f"PartNumber must be an integer between 1 and {PARTS_MAX}, inclusive",
            name="PartNumber",
            value=number,
        )
    checksums = {
        _CHECKSUM_ELEMENTS[name]: found[name].strip()
        for name in found
        if name in _CHECKSUM_ELEMENTS
    }
    return CompletedPart(int(number), unquote_etag(etag), checksums)


def parse_delete(body: bytes) -> DeleteRequest:
    """The objects of a DeleteObjects request. Raises S3Error: MalformedXML,
    UserKeyMustBeSpecified, InvalidArgument, MaxMessageLengthExceeded."""
    root = parse_document(body, "Delete")
    quiet = False
    items: list[DeleteItem] = []
    for child in root:
        name = local_name(child)
        if name == "Object":
            if len(items) == DELETE_KEYS_MAX:
                raise malformed()
            items.append(_delete_item(child))
        elif name == "Quiet":
            quiet = (child.text or "").strip().lower() == "true"
    if not items:
        raise malformed()
    return DeleteRequest(tuple(items), quiet)


def _delete_item(element: Element) -> DeleteItem:
    found = texts(element)
    key = found.get("Key")
    if key is None:
        raise malformed()
    if not key:
        raise S3Error("UserKeyMustBeSpecified")
    if len(found) == 1:
        return DeleteItem(key.encode("utf-8"), "", NO_CONDITIONS)
    conditions = NO_CONDITIONS
    match, size, mtime = found.get("ETag"), found.get("Size"), found.get("LastModifiedTime")
    if match is not None or size is not None or mtime is not None:
        conditions = member_conditions(match, size, mtime)
    return DeleteItem(key.encode("utf-8"), found.get("VersionId", ""), conditions)


class NewBucket(NamedTuple):
    """What a CreateBucket request says of the bucket."""

    location: str = ""
    """LocationConstraint; empty: none."""
    tags: tuple[tuple[str, str], ...] = ()
    """Not checked yet."""


def parse_create_bucket(body: bytes) -> NewBucket:
    """A CreateBucketConfiguration, or no body at all.

    Raises S3Error: MalformedXML, NotImplemented (directory buckets), MaxMessageLengthExceeded.
    """
    if not body.strip():
        return NewBucket()
    root = parse_document(body, "CreateBucketConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    constraint = ""
    tags: list[tuple[str, str]] = []
    for child in root:
        name = local_name(child)
        if name == "LocationConstraint":
            constraint = (child.text or "").strip()
        elif name == "Tags":
            tags += tag_pairs(child)
        elif name in ("Location", "Bucket"):
            raise S3Error(
                "NotImplemented", f"{name} in CreateBucketConfiguration is not implemented"
            )
    return NewBucket(constraint, tuple(tags))


def parse_tagging(
    body: bytes, *, tags_max: int = OBJECT_TAGS_MAX, kind: str = "Object"
) -> dict[str, str]:
    """The tags of a Tagging document, which are those of an object or (*kind*) something else.
    Raises S3Error: MalformedXML, InvalidTag, MaxMessageLengthExceeded."""
    root = parse_document(body, "Tagging", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    sets = list(children(root, "TagSet"))
    if len(sets) != 1:
        raise malformed()
    return checked_tags(tag_pairs(sets[0]), tags_max=tags_max, kind=kind)


def tag_pairs(parent: Element) -> list[tuple[str, str]]:
    """Key and value of each Tag in *parent*. Raises S3Error MalformedXML."""
    tags: list[tuple[str, str]] = []
    for element in children(parent, "Tag"):
        found = texts(element)
        if "Key" not in found or "Value" not in found:
            raise malformed()
        tags.append((found["Key"], found["Value"]))
    return tags


def checked_tags(
    tags: list[tuple[str, str]], *, tags_max: int = OBJECT_TAGS_MAX, kind: str = "Object"
) -> dict[str, str]:
    """*tags* of one object as a dict, if S3 allows them. Raises S3Error InvalidTag."""
    if len(tags) > tags_max:
        raise S3Error("InvalidTag", f"{kind} tags cannot be greater than {tags_max}")
    checked: dict[str, str] = {}
    for key, value in tags:
        if not 1 <= len(key) <= TAG_KEY_CHARACTERS_MAX or key.startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > TAG_VALUE_CHARACTERS_MAX:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
        if key in checked:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
        checked[key] = value
    return checked
