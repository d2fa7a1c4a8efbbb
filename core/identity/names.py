"""Names, paths, ARNs and ids of identities: what is allowed, and how they are made."""

from __future__ import annotations

import re
import secrets

from ..errors import InvalidArgumentError
from .records import ManagedPolicy, OidcProvider, Role, User
from .schema import Kind

# AWS's limits (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
NAME_CHARACTERS_MAX = {Kind.USER: 64, Kind.GROUP: 128, Kind.ROLE: 64}
POLICY_NAME_CHARACTERS_MAX = 128
PATH_CHARACTERS_MAX = 512
TAGS_MAX = 50
TAG_KEY_CHARACTERS_MAX = 128
TAG_VALUE_CHARACTERS_MAX = 256
INLINE_CHARACTERS_MAX = {Kind.USER: 2048, Kind.GROUP: 5120, Kind.ROLE: 10_240}
"""All inline policies of one holder together, white space not counted."""
MANAGED_CHARACTERS_MAX = 6144
TRUST_CHARACTERS_MAX = 4096  # AWS: 2048, and 4096 on request
HOLDERS_MAX = {Kind.USER: 5000, Kind.GROUP: 300, Kind.ROLE: 1000}
POLICIES_MAX = 1500
POLICY_VERSIONS_MAX = 5
ATTACHED_MAX = 20  # AWS: 10, and 20 on request
GROUPS_OF_USER_MAX = 10
KEYS_OF_USER_MAX = 2
EMAIL_CHARACTERS_MAX = 254

ACCESS_KEY_CHARACTERS = 20
SECRET_KEY_CHARACTERS = 40
AWS_ACCOUNT = "aws"
"""In the place of an account id: policies that every store has."""

_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]+")
_PATH = re.compile(r"/|/[\x21-\x7e]*/")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}|[A-Za-z0-9_-]{3,15}")
_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BLANKS = re.compile(r"\s+")

_ID_PREFIX = {Kind.USER: "AIDA", Kind.GROUP: "AGPA", Kind.ROLE: "AROA"}


def new_unique_id(kind: Kind) -> str:
    """Such as AIDA and 17 random characters."""
    return _random_id(_ID_PREFIX[kind])


def new_policy_id() -> str:
    """ANPA and 17 random characters."""
    return _random_id("ANPA")


def new_access_key() -> str:
    """AKIA and 16 random characters."""
    return "AKIA" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))


def new_session_key() -> str:
    """ASIA and 16 random characters: a temporary key."""
    return "ASIA" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))


def new_secret() -> str:
    """Forty random characters."""
    return "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(SECRET_KEY_CHARACTERS))


def new_account_id() -> str:
    """Twelve random digits, away from the low numbers that people choose."""
    return str(secrets.randbelow(900_000_000_000) + 100_000_000_000)


def _random_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(17))


def check_name(kind: Kind, name: str) -> None:
    """Raises InvalidArgumentError for a name that AWS does not allow."""
    _check(name, _NAME, NAME_CHARACTERS_MAX[kind], f"{kind.word} name")


def check_policy_name(name: str) -> None:
    """Raises InvalidArgumentError."""
    _check(name, _NAME, POLICY_NAME_CHARACTERS_MAX, "policy name")


def check_path(path: str) -> None:
    """Raises InvalidArgumentError for a path that does not begin and end with a slash."""
    _check(path, _PATH, PATH_CHARACTERS_MAX, "path")


def check_account_id(account_id: str) -> None:
    """Raises InvalidArgumentError for anything but twelve digits."""
    _check(account_id, _ACCOUNT_ID, 12, "account id (twelve digits)")


def check_email(email: str) -> None:
    """Raises InvalidArgumentError for what cannot be an address."""
    _check(email, _EMAIL, EMAIL_CHARACTERS_MAX, "e-mail address")


def check_access_key(access_key: str) -> None:
    """Raises InvalidArgumentError for a key id that signatures could not carry."""
    _check(access_key, _ACCESS_KEY, 128, "access key")


def check_tags(tags: dict[str, str]) -> None:
    """Raises InvalidArgumentError."""
    if len(tags) > TAGS_MAX:
        raise InvalidArgumentError(f"{len(tags)} tags; at most {TAGS_MAX} are allowed")
    for name, value in tags.items():
        if not 1 <= len(name) <= TAG_KEY_CHARACTERS_MAX or name.lower().startswith("aws:"):
            raise InvalidArgumentError(f"tag key {name[:TAG_KEY_CHARACTERS_MAX]!r} is not allowed")
        if len(value) > TAG_VALUE_CHARACTERS_MAX:
            raise InvalidArgumentError(
                f"the value of tag {name!r} has {len(value)} characters; at most "
                f"{TAG_VALUE_CHARACTERS_MAX} are allowed"
            )


def policy_size(document: str) -> int:
    """Characters of a document that count towards limits: white space does not."""
    return len(_BLANKS.sub("", document))


def root_arn(account_id: str) -> str:
    """The account as policies name it."""
    return f"arn:aws:iam::{account_id}:root"


def holder_arn(kind: Kind, account_id: str, path: str, name: str) -> str:
    """The ARN of a user, group or role."""
    return f"arn:aws:iam::{account_id}:{kind.word}{path}{name}"


def user_arn(user: User) -> str:
    """The user's ARN."""
    return holder_arn(Kind.USER, user.account_id, user.path, user.name)


def role_arn(role: Role) -> str:
    """The role's ARN."""
    return holder_arn(Kind.ROLE, role.account_id, role.path, role.name)


def session_arn(role: Role, session_name: str) -> str:
    """The ARN of a session of the role."""
    return f"arn:aws:sts::{role.account_id}:assumed-role/{role.name}/{session_name}"


def policy_arn(policy: ManagedPolicy) -> str:
    """The policy's ARN."""
    return f"arn:aws:iam::{policy.account_id}:policy{policy.path}{policy.name}"


def provider_arn(provider: OidcProvider) -> str:
    """The provider's ARN."""
    return f"arn:aws:iam::{provider.account_id}:oidc-provider/{provider.url}"


def split_arn(arn: str, resource: str) -> tuple[str, str]:
    """(account, what follows *resource* and its slash) of an IAM ARN.

    Raises InvalidArgumentError if it is none of that kind.
    """
    items = arn.split(":", 5)
    if len(items) != 6 or items[:4] != ["arn", "aws", "iam", ""]:
        raise InvalidArgumentError(f"ARN {arn[:2048]} is not valid")
    kind, slash, rest = items[5].partition("/")
    if kind != resource or not slash or not rest:
        raise InvalidArgumentError(f"ARN {arn[:2048]} is not the ARN of a {resource}")
    return items[4], rest


def _check(text: str, pattern: re.Pattern[str], longest: int, what: str) -> None:
    if len(text) > longest or pattern.fullmatch(text) is None:
        raise InvalidArgumentError(
            f"{text[:longest]!r} is not valid as {what}: at most {longest} characters that match "
            f"{pattern.pattern}"
        )
