"""Messages and errors survive the wire, and what does not belong there is refused."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core import errors
from craqen.core.errors import (
    CraqenError,
    NotFoundError,
    PreconditionFailedError,
    ProtocolError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.limits import BATCH_ITEMS_MAX, CHUNK_CLASS_BYTES_MAX
from craqen.core.wire import messages
from craqen.core.wire.codec import (
    ERROR_TEXT_CHARACTERS_MAX,
    WireError,
    decode,
    decode_error,
    encode_error,
    exception_from_status,
    status_of,
)
from craqen.core.wire.messages import (
    ChunkRange,
    ItemStatus,
    Message,
    ReadRequest,
    ReserveRequest,
    encode,
)

ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, CraqenError) and value is not CraqenError
]
MESSAGES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
]


def made(kind: type[CraqenError]) -> CraqenError:
    """An error of class *kind* with all its fields."""
    examples: dict[type, Any] = {int: 7, str: "If-Match", bool: True}
    if kind.__init__ is Exception.__init__:
        return kind("what, value, remedy")
    hints = get_type_hints(kind.__init__)
    fields = {
        name: examples[hints[name]]
        for name in inspect.signature(kind).parameters
        if name != "message"
    }
    return kind("what, value, remedy", **fields)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_rebuilt_as_what_it_was(kind: type[CraqenError]) -> None:
    error = made(kind)
    rebuilt = decode_error(encode_error(error))
    assert type(rebuilt) is kind
    assert str(rebuilt) == str(error)
    assert vars(rebuilt) == vars(error)


def test_an_error_class_from_elsewhere_goes_as_its_nearest_known_one() -> None:
    class KeyNotFoundError(NotFoundError):
        pass

    assert type(decode_error(encode_error(KeyNotFoundError("gone")))) is NotFoundError


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("CraqenError", {}),
        ("FromTheFutureError", {}),
        ("OSError", {}),
        ("__builtins__", {}),
        ("StaleChainVersionError", {}),
        ("StaleChainVersionError", {"chain_id": "four", "current_version": 9}),
    ],
)
def test_errors_not_known_here_are_retried(name: str, fields: dict[str, int | str]) -> None:
    error = decode_error(encode(WireError(name, "text", fields)))
    assert type(error) is UnavailableError
    assert name in str(error)
    assert "text" in str(error)


def test_fields_not_known_here_are_left_out() -> None:
    error = decode_error(encode(WireError("NotFoundError", "text", {"new": 1, "args": 2})))
    assert type(error) is NotFoundError
    assert vars(error) == {}


def test_texts_are_bounded_and_always_encodable() -> None:
    text = str(decode_error(encode_error(NotFoundError("\udcff" + "x" * 100_000))))
    assert text.startswith("\\udcff")
    assert len(text) < ERROR_TEXT_CHARACTERS_MAX + 10


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_statuses(kind: type[CraqenError]) -> None:
    error = made(kind)
    rebuilt = exception_from_status(status_of(error), chain_id=7)
    if kind is StaleChainVersionError:
        assert isinstance(rebuilt, StaleChainVersionError)
        assert vars(rebuilt) == vars(error)
    elif vars(error):
        assert type(rebuilt) is UnavailableError  # a status has no room for the fields
    else:
        assert type(rebuilt) is kind
    assert str(error) in str(rebuilt)


def test_a_status_of_success_is_no_error() -> None:
    assert exception_from_status(ItemStatus()) is None


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@settings(deadline=None)
@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_message_or_a_protocol_error(
    kind: type[Message], data: bytes
) -> None:
    try:
        message = decode(kind, data)
    except ProtocolError:
        return
    assert type(message) is kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x94\x01\x02\x90" + b"\x91" * 1_000_000,  # nested in a field of the future
        msgspec.msgpack.encode([1, 2, [-1]]),
        msgspec.msgpack.encode([1, 2, [CHUNK_CLASS_BYTES_MAX + 1]]),
        msgspec.msgpack.encode([1, 2, [0] * (BATCH_ITEMS_MAX + 1)]),
        msgspec.msgpack.encode([1, 2, ["one"]]),
        msgspec.msgpack.encode([1]),
        encode(ReserveRequest(1, 2, ())) + b"\x00",
    ],
    ids=["empty", "nested", "negative", "large", "many", "type", "short", "rest"],
)
def test_hostile_messages(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="ReserveRequest"):
        decode(ReserveRequest, data)


def test_messages_come_back_and_fields_may_be_appended() -> None:
    request = ReadRequest((ChunkRange(1, 2, 3, 4, 5, 6),))
    assert decode(ReadRequest, encode(request)) == request
    longer = msgspec.msgpack.encode([[[1, 2, 3, 4, 5, 6, False, "new"]], "new"])
    assert decode(ReadRequest, longer) == request


def test_a_condition_crosses() -> None:
    error = decode_error(encode_error(PreconditionFailedError("no", condition="If-None-Match")))
    assert isinstance(error, PreconditionFailedError)
    assert error.condition == "If-None-Match"
