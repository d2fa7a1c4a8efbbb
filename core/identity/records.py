"""Who a request or a process acts for: accounts, and identities inside them.

Account and user records follow IAM's model (docs.aws.amazon.com/IAM/latest/UserGuide/
reference_identifiers.html): an account owns buckets, a user or role acts inside one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum

import msgspec

FIRST_ACCOUNT_ID = "000000000001"
"""The account of the credentials that the first start makes."""


def canonical_id_of(account_id: str) -> str:
    """The 64 hexadecimal digits by which ACLs and owners name an account."""
    return hashlib.sha256(b"craqen account " + account_id.encode()).hexdigest()


class Principal(Enum):
    """What kind of identity acts."""

    ACCOUNT = "account"
    """The account's own (root) keys: everything that the account may."""
    USER = "user"
    ROLE = "assumed-role"
    ANONYMOUS = "anonymous"


_NO_TAGS: Mapping[str, str] = {}


class Session(msgspec.Struct, frozen=True, gc=False):
    """What temporary credentials add to the identity that they stand for."""

    name: str
    """The role session's name; empty for GetSessionToken."""
    issued_seconds: int
    expires_seconds: int
    policies: tuple[str, ...] = ()
    """JSON texts. If there are any, here or by ARN, the session may do only what one of them allows
    too."""
    policy_arns: tuple[str, ...] = ()
    """Managed policies that count as session policies."""
    source_identity: str = ""
    tags: dict[str, str] = {}
    """Session tags: they override the role's own in ``aws:PrincipalTag``."""
    transitive_tags: tuple[str, ...] = ()
    provider: str = ""
    """ARN of the OIDC provider whose token opened the session (``aws:FederatedProvider``)."""
    claims: dict[str, str] = {}
    """Claims of that token by condition key, such as ``idp.example.com:sub``."""


class Grants(msgspec.Struct, frozen=True, gc=False):
    """The policies of an identity, as JSON texts that were checked when they were set. Those of its
    session are in ``Session``."""

    policies: tuple[str, ...] = ()
    """Its own and its groups', inline and managed."""
    boundary: str | None = None
    """The permissions boundary; None: there is none."""
    session: tuple[str, ...] | None = None
    """All session policies, those by ARN too; None: there are none, so that nothing is cut."""


NO_GRANTS = Grants()


class Identity(msgspec.Struct, frozen=True, gc=False):
    """An identity, as a request proved it."""

    principal: Principal
    account_id: str
    """Twelve digits; empty for nobody."""
    canonical_id: str
    """The account's id where ACLs and owners are shown."""
    display_name: str
    arn: str
    user_id: str
    """``aws:userid``: AIDA… of a user, AROA…:session of a role, the account id of an account."""
    user_name: str = ""
    """``aws:username``; users only."""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Supplementary POSIX groups."""
    role_name: str = ""
    """Roles only."""
    role_arn: str = ""
    """The role itself, which policies name beside the session's own ARN; roles only."""
    tags: Mapping[str, str] = _NO_TAGS
    """``aws:PrincipalTag``: of the user, or of the role and the session."""
    session: Session | None = None
    """Set for temporary credentials."""
    grants: Grants = NO_GRANTS
    """What its policies were when the request's signature was checked."""


ANONYMOUS = Identity(
    Principal.ANONYMOUS, "", "", "", "*", "anonymous", uid=65534, gid=65534
)  # 65534: nobody and nogroup on Linux
"""A request without a signature."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of all stored records: MessagePack maps, since they are few and grow by new fields."""


class Account(Record, frozen=True):
    """What owns buckets. Its root keys may do everything that the account may."""

    account_id: str
    name: str
    created_ns: int
    email: str = ""
    uid: int = 0
    """Of the account's own keys, and of users and roles made without one."""
    gid: int = 0
    groups: tuple[int, ...] = ()

    @property
    def canonical_id(self) -> str:
        """The id by which ACLs and owners name the account."""
        return canonical_id_of(self.account_id)


class Holder(Record, frozen=True):
    """What users, groups and roles have in common: a name in an account, and policies."""

    account_id: str
    name: str
    path: str
    """Begins and ends with a slash."""
    unique_id: str
    created_ns: int
    inline: dict[str, str] = {}
    """Inline policies: JSON texts by name."""
    attached: tuple[str, ...] = ()
    """ARNs of managed policies."""
    tags: dict[str, str] = {}
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Supplementary POSIX groups."""


class User(Holder, frozen=True):
    """Somebody, or some program, with keys of its own."""

    member_of: tuple[str, ...] = ()
    """Names of groups."""
    boundary: str = ""
    """ARN of the managed policy that bounds what other policies may give; empty: none."""


class Group(Holder, frozen=True):
    """Users who share policies. Its POSIX group, if it has one, is not implied by membership."""


class Role(Holder, frozen=True):
    """What others may act as, for a while."""

    trust: str = ""
    """JSON text of the policy that says who may assume it."""
    description: str = ""
    session_seconds_max: int = 3600
    boundary: str = ""


class PolicyVersion(Record, frozen=True):
    """One document of a managed policy."""

    version_id: str
    document: str
    created_ns: int


class ManagedPolicy(Record, frozen=True):
    """A policy with a name of its own, to be attached to any number of holders."""

    account_id: str
    name: str
    path: str
    unique_id: str
    created_ns: int
    updated_ns: int
    versions: tuple[PolicyVersion, ...]
    """Oldest first; one of them is the default."""
    default_version: str
    last_version: int
    """Number of the version made last: numbers are never used again."""
    description: str = ""
    tags: dict[str, str] = {}

    @property
    def document(self) -> str:
        """The document in force."""
        return next(one.document for one in self.versions if one.version_id == self.default_version)


class AccessKey(Record, frozen=True):
    """A key of a user, or of an account itself. Its secret is sealed."""

    access_key: str
    account_id: str
    user: str
    """Name of the user; empty: the account's own key."""
    sealed_secret: bytes
    created_ns: int
    active: bool = True

    def __repr__(self) -> str:
        return f"AccessKey({self.access_key!r}, user={self.user!r}, active={self.active})"


class SessionToken(Record, frozen=True):
    """What a session token holds, sealed: all of the temporary credentials."""

    access_key: str
    secret_key: str
    account_id: str
    user: str
    """Name of the user; empty if the session is a role's, or the account's own."""
    role: str
    unique_id: str
    """Of the user or role: another of the same name is not meant."""
    session: Session

    def __repr__(self) -> str:
        return f"SessionToken({self.access_key!r}, user={self.user!r}, role={self.role!r})"


class OidcProvider(Record, frozen=True):
    """An issuer of identity tokens that the account trusts."""

    account_id: str
    url: str
    """Without ``https://``."""
    created_ns: int
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: dict[str, str] = {}
