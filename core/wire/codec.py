"""Messages and errors to bytes and back. Whatever comes from a peer is checked before it is
used."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from .. import errors
from ..errors import (
    CraqenError,
    PartTooSmallError,
    PreconditionFailedError,
    ProtocolError,
    StaleChainVersionError,
    UnavailableError,
)
from .messages import ItemStatus, Message

R = TypeVar("R", bound=Message)

ERROR_TEXT_CHARACTERS_MAX = 2000

_CLASSES: dict[str, type[CraqenError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, CraqenError)
}

_decoders: dict[type[Message], msgspec.msgpack.Decoder[Message]] = {}


def decode(kind: type[R], data: bytes) -> R:
    """Return *data* as a message of class *kind*. Raises ProtocolError."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)  # type: ignore[assignment]
    try:
        return decoder.decode(data)  # type: ignore[return-value]
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"{kind.__name__}: cannot be understood: {error}") from error


class WireError(Message):
    """An error as it crosses the wire: class name, text, and the fields that some classes carry."""

    name: str
    text: str
    fields: dict[str, int | str] = {}


def encode_error(error: CraqenError) -> bytes:
    """Return *error* as bytes."""
    fields: dict[str, int | str] = {}
    if isinstance(error, StaleChainVersionError):
        fields = {"chain_id": error.chain_id, "current_version": error.current_version}
    elif isinstance(error, PreconditionFailedError):
        fields = {"condition": error.condition}
    elif isinstance(error, PartTooSmallError):
        fields = {"part_number": error.part_number, "size_bytes": error.size_bytes}
    text = str(error)[:ERROR_TEXT_CHARACTERS_MAX]
    return msgspec.msgpack.encode(WireError(type(error).__name__, text, fields))


def decode_error(data: bytes) -> CraqenError:
    """The error that ``encode_error`` made *data* of; UnavailableError for a class unknown here."""
    wire = decode(WireError, data)
    return _rebuild(wire.name, wire.text, dict(wire.fields))


def _rebuild(name: str, text: str, fields: dict[str, int | str]) -> CraqenError:
    kind = _CLASSES.get(name)
    if kind is None or kind is CraqenError:
        return UnavailableError(f"{name}: {text}")
    try:
        return kind(text, **fields)
    except TypeError as error:
        raise ProtocolError(f"error {name} came with fields {sorted(fields)}") from error


def status_of(error: CraqenError) -> ItemStatus:
    """The outcome of one item of a batch that failed with *error*."""
    version = error.current_version if isinstance(error, StaleChainVersionError) else 0
    return ItemStatus(type(error).__name__, str(error)[:ERROR_TEXT_CHARACTERS_MAX], version)


def exception_from_status(status: ItemStatus) -> CraqenError | None:
    """The error that an item's status tells of; None for success."""
    if not status.error:
        return None
    if status.error == "StaleChainVersionError":
        return StaleChainVersionError(
            status.text, chain_id=0, current_version=status.current_chain_version
        )
    return _rebuild(status.error, status.text, {})
