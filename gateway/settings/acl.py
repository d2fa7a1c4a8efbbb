"""ACLs as requests bring them and answers show them: canned names, grant headers, documents. Pure.
Rules: docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...core.meta.records import Acl, Grant
from ..errors import S3Error, invalid_argument
from ..headers import Headers
from ..listings import Person
from ..xml import SMALL_DOCUMENT_BYTES_MAX, Element, children, malformed, parse_document, texts
from .elements import document, element, needed, only, optional
from .stored import Stored

GRANTS_MAX = 100  # as AWS
READ, WRITE, READ_ACP, WRITE_ACP = "READ", "WRITE", "READ_ACP", "WRITE_ACP"
FULL_CONTROL = "FULL_CONTROL"
PERMISSIONS = frozenset({READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL})
ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY = "AllUsers", "AuthenticatedUsers", "LogDelivery"
PUBLIC_GROUPS = frozenset({ALL_USERS, AUTHENTICATED_USERS})

PRIVATE = "private"
BUCKET_OWNER_FULL_CONTROL = "bucket-owner-full-control"
_OF_EVERYTHING: dict[str, tuple[tuple[str, str], ...]] = {
    PRIVATE: (),
    "public-read": ((ALL_USERS, READ),),
    "public-read-write": ((ALL_USERS, READ), (ALL_USERS, WRITE)),
    "authenticated-read": ((AUTHENTICATED_USERS, READ),),
    "aws-exec-read": (),
}
_OF_BUCKETS = {**_OF_EVERYTHING, "log-delivery-write": ((LOG_DELIVERY, WRITE),)}
_OF_BUCKETS["log-delivery-write"] += ((LOG_DELIVERY, READ_ACP),)
_OF_OBJECTS = {
    **_OF_EVERYTHING,
    "bucket-owner-read": (("", READ),),
    BUCKET_OWNER_FULL_CONTROL: (("", FULL_CONTROL),),
}
"""What each canned ACL gives beside the owner's full control; empty name: the bucket's owner."""

_GROUP_URIS = {
    ALL_USERS: "http://acs.amazonaws.com/groups/global/AllUsers",
    AUTHENTICATED_USERS: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
    LOG_DELIVERY: "http://acs.amazonaws.com/groups/s3/LogDelivery",
}
_GROUPS = {uri: name for name, uri in _GROUP_URIS.items()}
CANNED_HEADER = "x-amz-acl"
_GRANT_HEADERS = {
    "x-amz-grant-full-control": FULL_CONTROL,
    "x-amz-grant-read": READ,
    "x-amz-grant-read-acp": READ_ACP,
    "x-amz-grant-write": WRITE,
    "x-amz-grant-write-acp": WRITE_ACP,
}
HEADERS = frozenset({CANNED_HEADER, *_GRANT_HEADERS})
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

STORED: Stored[Acl] = Stored("acl", Acl)


class Asked(NamedTuple):
    """A grant as a request names it: one of *id*, *email* and *group*."""

    permission: str
    id: str = ""
    email: str = ""
    group: str = ""


class AskedAcl(NamedTuple):
    """What a request asks for."""

    canned: str = ""
    """A canned ACL; then there are no grants."""
    grants: tuple[Asked, ...] = ()
    owner: str = ""
    """Who is said to be the owner; empty: nothing is said."""


def asked_by_headers(headers: Headers) -> AskedAcl | None:
    """The ACL in the headers; None: nothing is said of one. Raises S3Error InvalidArgument,
    InvalidRequest."""
    given = HEADERS.intersection(headers)
    if not given:
        return None
    if CANNED_HEADER in given:
        if len(given) > 1:
            raise S3Error(
                "InvalidRequest",
                "Specifying both Canned ACLs and Header Grants is not allowed",
            )
        canned = headers[CANNED_HEADER]
        if canned not in _OF_BUCKETS and canned not in _OF_OBJECTS:
            raise invalid_argument("", name=CANNED_HEADER, value=canned)
        return AskedAcl(canned)
    grants: list[Asked] = []
    for name, permission in _GRANT_HEADERS.items():
        if name in given:
            grants += [
                _grantee(name, item.strip(), permission) for item in headers[name].split(",")
            ]
    _check_count(len(grants))
    return AskedAcl(grants=tuple(grants))


def _grantee(header: str, text: str, permission: str) -> Asked:
    kind, _, value = text.partition("=")
    value = value.strip().strip('"')
    match kind.strip().lower():
        case "id" if value:
            return Asked(permission, id=value)
        case "emailaddress" if value:
            return Asked(permission, email=value)
        case "uri" if value in _GROUPS:
            return Asked(permission, group=_GROUPS[value])
    raise invalid_argument("Argument format not recognized", name=header, value=text)


def asked_by_document(body: bytes) -> AskedAcl:
    """The ACL of an AccessControlPolicy. Raises S3Error: MalformedXML, MalformedACLError,
    InvalidArgument, MaxMessageLengthExceeded."""
    root = parse_document(body, "AccessControlPolicy", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    owner = only(root, "Owner")
    if owner is None:
        raise S3Error("MalformedACLError")
    found = needed(root, "AccessControlList")
    grants = tuple(_asked(child) for child in children(found, "Grant"))
    _check_count(len(grants))
    return AskedAcl(grants=grants, owner=texts(owner).get("ID", "").strip())


def _asked(grant: Element) -> Asked:
    permission = texts(grant).get("Permission", "").strip()
    if permission not in PERMISSIONS:
        raise S3Error("MalformedACLError")
    grantee = {name: text.strip() for name, text in texts(needed(grant, "Grantee")).items()}
    if grantee.get("ID"):
        return Asked(permission, id=grantee["ID"])
    if grantee.get("EmailAddress"):
        return Asked(permission, email=grantee["EmailAddress"])
    uri = grantee.get("URI", "")
    if not uri:
        raise malformed()
    if uri not in _GROUPS:
        raise invalid_argument("Invalid group uri", name="uri", value=uri)
    return Asked(permission, group=_GROUPS[uri])


def _check_count(count: int) -> None:
    if count > GRANTS_MAX:
        raise S3Error("MalformedACLError", f"An ACL has at most {GRANTS_MAX} grants")


def canned_grants(
    name: str, owner: Person, bucket_owner: Person, *, of_bucket: bool
) -> tuple[Grant, ...]:
    """What a canned ACL gives. Raises S3Error InvalidArgument for one of the other kind."""
    given = (_OF_BUCKETS if of_bucket else _OF_OBJECTS).get(name)
    if given is None:
        if of_bucket:  # AWS ignores those that are about objects
            given = ()
        else:
            raise invalid_argument("", name=CANNED_HEADER, value=name)
    grants = [Grant(owner.id, FULL_CONTROL, owner.display_name)]
    for grantee, permission in given:
        if grantee:
            grants.append(Grant(grantee, permission))
        elif bucket_owner.id != owner.id:
            grants.append(Grant(bucket_owner.id, permission, bucket_owner.display_name))
    return tuple(grants)


def gives_only_to(asked: AskedAcl, canonical_id: str) -> bool:
    """Whether nobody but the writer and the bucket's owner, *canonical_id*, gets anything."""
    if asked.canned:
        return asked.canned in _AMONG_OWNERS
    return all(one.id == canonical_id for one in asked.grants)


_AMONG_OWNERS = frozenset({PRIVATE, "bucket-owner-read", BUCKET_OWNER_FULL_CONTROL})


def is_public(grants: Sequence[Grant]) -> bool:
    """Whether everybody gets something, or all who have an account."""
    return any(grant.grantee in PUBLIC_GROUPS for grant in grants)


def gives_to_others(grants: Sequence[Grant], owner: str) -> bool:
    """Whether anybody but *owner* (a canonical id) gets something."""
    return any(grant.grantee != owner for grant in grants)


def of_owner(owner: Person) -> tuple[Grant, ...]:
    """What every ACL begins as: the owner's full control."""
    return (Grant(owner.id, FULL_CONTROL, owner.display_name),)


def render(owner: Person, grants: Sequence[Grant]) -> bytes:
    """AccessControlPolicy: groups first, the owner last."""
    ordered = sorted(
        grants, key=lambda grant: (grant.grantee not in _GROUP_URIS, grant.grantee == owner.id)
    )
    shown = "".join(map(_grant, ordered))
    person = element("ID", owner.id) + optional("DisplayName", owner.display_name)
    return document(
        "AccessControlPolicy",
        f"<Owner>{person}</Owner><AccessControlList>{shown}</AccessControlList>",
    )


def _grant(grant: Grant) -> str:
    uri = _GROUP_URIS.get(grant.grantee)
    if uri is None:
        kind = "CanonicalUser"
        who = element("ID", grant.grantee) + optional("DisplayName", grant.name)
    else:
        kind, who = "Group", element("URI", uri)
    grantee = f'<Grantee {_XSI} xsi:type="{kind}">{who}</Grantee>'
    return f"<Grant>{grantee}{element('Permission', grant.permission)}</Grant>"
