"""The senders of a configuration: one for each destination."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..errors import ConfigError
from ..options import EventOptions
from .destinations import NO_SECRETS, Destination, Secrets, parse_destinations, read_secrets
from .jetstream import JetStream
from .sender import Sender
from .webhook import Webhook


class Senders:
    """Makes a sender when it is first asked for, and keeps it."""

    def __init__(self, options: EventOptions) -> None:
        """Raises ConfigError."""
        self.destinations = parse_destinations(options.destinations)
        """By name."""
        self._options = options
        self._context = _context(options.ca_file)
        self._senders: dict[str, Sender] = {}
        self._secrets: dict[str, Secrets] = {}
        self._seen: tuple[int, int, int] | None = None
        self._read()

    def of(self, name: str) -> Sender | None:
        """The sender of a destination; None: it is not configured."""
        destination = self.destinations.get(name)
        if destination is None:
            return None
        if name not in self._senders:
            self._senders[name] = self._make(destination)
        return self._senders[name]

    def _make(self, destination: Destination) -> Sender:
        kind = Webhook if destination.is_webhook else JetStream
        return kind(
            destination,
            lambda: self._secrets_of(destination.name),
            context=self._context,
            timeout_seconds=self._options.timeout_seconds,
        )

    def _secrets_of(self, name: str) -> Secrets:
        self._read()
        return self._secrets.get(name, NO_SECRETS)

    def _read(self) -> None:
        """Read the secrets if their file changed. Raises ConfigError."""
        path = self._options.secrets_file
        if not path:
            return
        try:
            found = Path(path).stat()
        except OSError as error:
            raise ConfigError(f"events.secrets_file: {path}: {error.strerror}") from error
        seen = found.st_ino, found.st_mtime_ns, found.st_size
        if seen != self._seen:
            self._secrets = read_secrets(path)
            self._seen = seen

    async def close(self) -> None:
        """Close all connections; who asks again makes new ones."""
        senders, self._senders = self._senders, {}
        for sender in senders.values():
            await sender.close()


def _context(ca_file: str) -> ssl.SSLContext | None:
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"events.ca_file: {ca_file}: cannot be used: {error}") from error
