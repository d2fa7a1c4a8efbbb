"""Messages and errors to bytes and back. Whatever comes from a peer is checked before it is
used."""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeVar, get_type_hints

import msgspec

from .. import errors
from ..errors import (
    UNREADABLE,
    CraqenError,
    ProtocolError,
    StaleChainVersionError,
    UnavailableError,
)
from .messages import ItemStatus, Message

R = TypeVar("R", bound=Message)

ERROR_TEXT_CHARACTERS_MAX: Final = 2000

_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


def decode(kind: type[R], data: bytes) -> R:
    """Return *data* as a message of class *kind*. Raises ProtocolError."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        message: R = decoder.decode(data)
    except UNREADABLE as error:
        raise ProtocolError(f"{kind.__name__}: cannot be understood: {error}") from error
    return message


class WireError(Message, frozen=True):
    """An error as it crosses the wire: class name, text, and the fields that some classes carry."""

    name: str
    text: str
    fields: dict[str, bool | int | str] = {}


def encode_error(error: CraqenError) -> bytes:
    """Return *error* as bytes. A class that is not of core/errors.py goes as its nearest one."""
    name = _name_of(error)
    fields = {field: getattr(error, field) for field in _FIELDS[name]}
    return msgspec.msgpack.encode(WireError(name, _text_of(error), fields))


def decode_error(data: bytes) -> CraqenError:
    """The error that ``encode_error`` made *data* of; UnavailableError for one that is not known
    here, so that a newer program's errors are met by asking again. Raises ProtocolError."""
    wire = decode(WireError, data)
    return _rebuild(wire.name, wire.text, wire.fields)


def status_of(error: CraqenError) -> ItemStatus:
    """The outcome of one item of a batch that failed with *error*."""
    version = error.current_version if isinstance(error, StaleChainVersionError) else 0
    return ItemStatus(_name_of(error), _text_of(error), version)


def exception_from_status(status: ItemStatus, *, chain_id: int = 0) -> CraqenError | None:
    """The error that an item's status tells of; None for success. A status carries few fields:
    *chain_id* is what the caller asked about, and errors with other fields become
    UnavailableError."""
    if not status.error:
        return None
    fields: dict[str, bool | int | str] = {
        "chain_id": chain_id,
        "current_version": status.current_chain_version,
    }
    return _rebuild(status.error, status.text, fields)


def _name_of(error: CraqenError) -> str:
    for kind in type(error).__mro__:
        if kind.__name__ in _CLASSES and _CLASSES[kind.__name__] is kind:
            return kind.__name__
    raise AssertionError(f"{type(error).__name__} descends from no class of core/errors.py")


def _text_of(error: CraqenError) -> str:
    # A lone surrogate (from a file name) has no place in MessagePack.
    text = str(error)[:ERROR_TEXT_CHARACTERS_MAX]
    return text.encode("utf-8", "backslashreplace").decode()


def _rebuild(name: str, text: str, fields: dict[str, bool | int | str]) -> CraqenError:
    """Fields that the class here does not have are left out; wrong or missing ones mean that it is
    another class than ours."""
    kind = _CLASSES.get(name)
    if kind is not None:
        expected = _FIELDS[name]
        known = {
            field: fields[field]
            for field, type_ in expected.items()
            if isinstance(fields.get(field), type_)
        }
        if len(known) == len(expected):
            return kind(text, **known)
    return UnavailableError(f"{name[:100]}: {text}")


def _fields_of(kind: type[CraqenError]) -> dict[str, type]:
    """Keyword fields of an error class, with their types."""
    if kind.__init__ is Exception.__init__:
        return {}
    hints = get_type_hints(kind.__init__)
    return {
        name: hints[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


_CLASSES: Final[dict[str, type[CraqenError]]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, CraqenError) and value is not CraqenError
}

_FIELDS: Final = {name: _fields_of(kind) for name, kind in _CLASSES.items()}
