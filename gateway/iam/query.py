"""The AWS query protocol: parameters in a form body, answers and errors in XML. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from ..xml_text import escape

BODY_BYTES_MAX = 256 * 1024  # the largest policies, URL-encoded three times over
PARAMETERS_MAX = 512  # 50 tags take 100
FORM_TYPE = "application/x-www-form-urlencoded"

IAM, STS = "iam", "sts"
_NAMESPACES = {
    IAM: "https://iam.amazonaws.com/doc/2010-05-08/",
    STS: "https://sts.amazonaws.com/doc/2011-06-15/",
}
_DIGITS = re.compile(r"[0-9]{1,10}")

Answer = Mapping[str, object]
"""Elements in their order: texts, numbers, booleans, further answers, lists of members; None is
left out."""


class Entries:
    """A map in an answer: entries of a key and a value each."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values


class QueryError(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")


class Parameters:
    """The parameters of a call."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str, default: str = "") -> str:
        """The value of *name*."""
        return self._values.get(name, default)

    def optional(self, name: str) -> str | None:
        """The value of *name*; None if it was not given."""
        return self._values.get(name)

    def need(self, name: str) -> str:
        """The value of *name*. Raises QueryError ValidationError."""
        value = self._values.get(name, "")
        if not value:
            raise invalid(
                f"1 validation error detected: Value null at '{name}' failed to satisfy "
                f"constraint: Member must not be null"
            )
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Raises QueryError ValidationError for anything but a number in the range."""
        text = self._values.get(name, "")
        if not text:
            return default
        if _DIGITS.fullmatch(text) is None or not least <= int(text) <= most:
            raise invalid(
                f"1 validation error detected: Value '{text[:64]}' at '{name}' failed to "
                f"satisfy constraint: Member must be between {least} and {most}"
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """Whether *name* is ``true``."""
        return self._values.get(name, "").lower() == "true"

    def members(self, name: str) -> list[str]:
        """The list *name*: ``name.member.1`` and so on."""
        found: list[str] = []
        while (value := self._values.get(f"{name}.member.{len(found) + 1}")) is not None:
            found.append(value)
        return found

    def tags(self, name: str = "Tags") -> dict[str, str]:
        """A list of tags. Raises QueryError InvalidInput for a key that comes twice."""
        found: dict[str, str] = {}
        number = 1
        while (key := self._values.get(f"{name}.member.{number}.Key")) is not None:
            if key.lower() in {one.lower() for one in found}:
                raise QueryError(
                    "InvalidInput",
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
                )
            found[key] = self._values.get(f"{name}.member.{number}.Value", "")
            number += 1
        return found


def parse_form(body: bytes) -> dict[str, str]:
    """The parameters in a form body; of a repeated one the first counts.

    Raises QueryError MalformedInput.
    """
    items = body.split(b"&", PARAMETERS_MAX)
    if len(items) > PARAMETERS_MAX:
        raise QueryError("MalformedInput", "Too many parameters")
    found: dict[str, str] = {}
    for item in items:
        name, _, value = item.partition(b"=")
        found.setdefault(_decoded(name), _decoded(value))
    return found


def _decoded(text: bytes) -> str:
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError as error:
        raise QueryError("MalformedInput", "A parameter is not UTF-8") from error


def invalid(message: str) -> QueryError:
    """ValidationError: an argument is outside what is allowed."""
    return QueryError("ValidationError", message)


def answer_document(service: str, action: str, answer: Answer | None, request_id: str) -> bytes:
    """The document of a call that was carried out; *answer* None: it has no result."""
    parts = [f'<{action}Response xmlns="{_NAMESPACES[service]}">']
    if answer is not None:
        parts.append(f"<{action}Result>")
        _render(parts, answer)
        parts.append(f"</{action}Result>")
    parts.append(
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )
    return "".join(parts).encode("utf-8")


def failure_document(service: str, error: QueryError, request_id: str) -> bytes:
    """The document of a call that was refused or failed."""
    kind = "Sender" if error.status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{_NAMESPACES[service]}"><Error><Type>{kind}</Type>'
        f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _render(parts: list[str], answer: Answer) -> None:
    for name, value in answer.items():
        if value is None:
            continue
        parts.append(f"<{name}>")
        _render_value(parts, value)
        parts.append(f"</{name}>")


def _render_value(parts: list[str], value: object) -> None:
    if isinstance(value, Mapping):
        _render(parts, value)
    elif isinstance(value, str):
        parts.append(escape(value))
    elif isinstance(value, Entries):
        for key, text in value.values.items():
            parts.append("<entry>")
            _render(parts, {"key": key, "value": text})
            parts.append("</entry>")
    elif isinstance(value, Sequence):
        for member in value:
            parts.append("<member>")
            _render_value(parts, member)
            parts.append("</member>")
    else:
        parts.append(str(value).lower())  # numbers, and booleans as true or false
