"""Keys and values of accounts and identities in the KV. All begin with ``I``:

I/stamp                     changes with every change below: who caches looks at it first
I/salt                      random; goes into the key that seals secrets
I a account                 Account
I c canonical id            account id
I e email                   account id
I u|g|r account name        User, Group, Role; the name in lower case, since names of one kind
                            may not differ by case alone
I p account name            ManagedPolicy
I k access key              AccessKey
I x account user key        the keys of a user; of the account itself with an empty user
I m account group user      the members of a group
I t policy kind acc. name   who has a managed policy attached, or as boundary
I o account url             OidcProvider
I q account letter          how many of a kind the account has: a counter
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import msgspec

from ..errors import UNREADABLE, DataLossError
from ..kv.keys import pack, prefix_end, unpack
from ..kv.store import Transaction
from .records import Group, Record, Role, User

FORMAT_VERSION = 1
_FORMAT = bytes([FORMAT_VERSION])

STAMP_KEY = b"I/stamp"
SALT_KEY = b"I/salt"

R = TypeVar("R", bound=Record)

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Record]] = {}


class Kind(Enum):
    """Kinds of holders; the value is a letter of the key."""

    USER = "u"
    GROUP = "g"
    ROLE = "r"

    @property
    def word(self) -> str:
        """As messages and ARNs name it."""
        return self.name.lower()


RECORD_OF: dict[Kind, type[User] | type[Group] | type[Role]] = {
    Kind.USER: User,
    Kind.GROUP: Group,
    Kind.ROLE: Role,
}


def encode(record: Record) -> bytes:
    """*record* as a stored value."""
    return _FORMAT + _encoder.encode(record)


def decode(value: bytes, kind: type[R]) -> R:
    """The record that *value* is. Raises DataLossError."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    if value[:1] != _FORMAT:
        raise DataLossError(
            f"a {kind.__name__} record has format {value[:1].hex()}; this program reads "
            f"{_FORMAT.hex()}"
        )
    try:
        return decoder.decode(memoryview(value)[1:])  # type: ignore[return-value]
    except UNREADABLE as error:
        raise DataLossError(f"a {kind.__name__} record cannot be understood: {error}") from error


def key(letter: str, *names: str) -> bytes:
    """The key of something."""
    return b"I" + letter.encode() + pack(names)


def span(letter: str, *names: str) -> tuple[bytes, bytes]:
    """All keys that begin with *names*."""
    begin = key(letter, *names)
    return begin, prefix_end(begin)


def last_name(stored: bytes) -> str:
    """The last name of a key."""
    return str(unpack(stored[2:])[-1])


def names_of(stored: bytes) -> tuple[str, ...]:
    """All names of a key."""
    return tuple(str(name) for name in unpack(stored[2:]))


def holder_key(kind: Kind, account_id: str, name: str) -> bytes:
    """The key of a user, group or role."""
    return key(kind.value, account_id, name.lower())


def touch(tx: Transaction) -> None:
    """Something changed: whoever caches must see it before the next request."""
    tx.set_versionstamped_value(STAMP_KEY, b"")
