"""Who a request or a process acts for: accounts, and identities inside them.

Account and user records follow IAM's model (docs.aws.amazon.com/IAM/latest/UserGuide/
reference_identifiers.html): an account owns buckets, a user or role acts inside one.
"""

from __future__ import annotations

import hashlib
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


ANONYMOUS = Identity(
    Principal.ANONYMOUS, "", "", "", "*", "anonymous", uid=65534, gid=65534
)  # 65534: nobody and nogroup on Linux
"""A request without a signature."""
