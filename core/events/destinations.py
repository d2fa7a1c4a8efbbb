"""The options ``events``: who can be told, by name, and what each wants to be shown. Pure, but for
the file of secrets, which is read when a connection is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from ..errors import UNREADABLE, ConfigError

SECRETS_BYTES_MAX = 1 << 20
WEBHOOK_SCHEMES = frozenset({"http", "https"})
BROKER_SCHEMES = frozenset({"nats", "tls"})
BROKER_PORT = 4222

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Destination(msgspec.Struct, frozen=True):
    """Somebody who can be told."""

    name: str
    url: str

    @property
    def is_webhook(self) -> bool:
        """Told by HTTP; else by a broker."""
        return urlsplit(self.url).scheme in WEBHOOK_SCHEMES

    @property
    def subject(self) -> str:
        """What a broker calls the place."""
        return urlsplit(self.url).path.strip("/")


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one destination is shown."""

    bearer: str = ""
    """Webhooks: ``Authorization: Bearer …``."""
    hmac_key: str = ""
    """Webhooks: messages are signed with it."""
    user: str = ""
    password: str = ""
    token: str = ""
    """Brokers, instead of user and password."""


NO_SECRETS = Secrets()


def parse_destinations(texts: Sequence[str]) -> dict[str, Destination]:
    """The option ``events.destinations`` by name. Raises ConfigError."""
    found: dict[str, Destination] = {}
    for text in texts:
        name, separator, url = text.partition("=")
        if not separator or not _NAME.fullmatch(name):
            raise ConfigError(
                f"events.destinations: {name!r}: write NAME=URL, with a name of letters, digits, - "
                "and _"
            )
        if name in found:
            raise ConfigError(f"events.destinations: {name} is there twice")
        _check(name, url)
        found[name] = Destination(name, url)
    return found


def _check(name: str, url: str) -> None:
    what = f"events.destinations: {name}"
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ConfigError(f"{what}: not a URL: {error}") from error
    if parts.username or parts.password:
        raise ConfigError(f"{what}: secrets belong into events.secrets_file, not into the URL")
    if parts.scheme not in WEBHOOK_SCHEMES | BROKER_SCHEMES or not parts.hostname:
        raise ConfigError(f"{what}: expected https://, http://, nats:// or tls:// and a host")
    if not port_is_good:
        raise ConfigError(f"{what}: port 0 is none")
    if parts.scheme in BROKER_SCHEMES:
        _check_subject(what, parts)


def _check_subject(what: str, parts: SplitResult) -> None:
    if not _SUBJECT.fullmatch(parts.path.strip("/")):
        raise ConfigError(
            f"{what}: {parts.scheme}://HOST:PORT/SUBJECT, with a subject such as craqen.events"
        )


def read_secrets(path: str) -> dict[str, Secrets]:
    """What the file says, by destination; nothing without a file. Raises ConfigError, which names
    no secret."""
    if not path:
        return {}
    what = f"events.secrets_file: {path}"
    try:
        with Path(path).open("rb") as file:
            mode = Path(path).stat().st_mode
            text = file.read(SECRETS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{what}: others can read it: chmod 600 {path}")
    if len(text) > SECRETS_BYTES_MAX:
        raise ConfigError(f"{what}: is longer than {SECRETS_BYTES_MAX} bytes")
    try:
        return _decode(text)
    except UNREADABLE:
        raise ConfigError(
            f"{what}: expected, for each destination, its name and below it bearer, hmac_key, "
            "user, password or token"
        ) from None  # the cause may quote what is in the file


def _decode(text: bytes) -> dict[str, Secrets]:
    return msgspec.yaml.decode(text, type=dict[str, Secrets])
