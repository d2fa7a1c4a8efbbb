"""DRIVER: events as messages of a NATS JetStream stream, which keeps them until they are read.

Each message has the header ``Nats-Msg-Id``: the server leaves out a message that it took already,
within the stream's window for duplicates (docs.nats.io, JetStream, message deduplication).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import MissingDependencyError, UnavailableError
from .destinations import BROKER_PORT, Destination, Secrets
from .sender import RefusedMessageError

if TYPE_CHECKING:
    from nats.aio.client import Client

MESSAGE_ID_HEADER = "Nats-Msg-Id"
TOO_LONG_CODE = 10054
"""JSStreamMessageExceedsMaximumErr, of the server's list of errors."""


class JetStream:
    """``Sender``."""

    def __init__(
        self,
        destination: Destination,
        secrets: Callable[[], Secrets],
        *,
        context: ssl.SSLContext | None,
        timeout_seconds: float,
    ) -> None:
        """*context*: whom to trust, for ``tls://``; None: whom the host trusts."""
        self._destination = destination
        self._secrets = secrets
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        """Held while a connection is made: those who send at once share it."""

    async def send(self, message: bytes, message_id: str) -> None:
        """Publish, and wait for the stream's answer."""
        what = f"events.destinations: {self._destination.name}"
        client = await self._connected(what)
        from nats.errors import Error, MaxPayloadError
        from nats.js.errors import APIError

        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.jetstream().publish(
                    self._destination.subject,
                    message,
                    timeout=self._timeout_seconds,
                    headers={MESSAGE_ID_HEADER: message_id},
                )
        except MaxPayloadError as error:
            raise RefusedMessageError(f"{what}: takes no message of this length") from error
        except TimeoutError as error:
            raise UnavailableError(
                f"{what}: did not answer within {self._timeout_seconds:g} seconds"
            ) from error
        except APIError as error:
            if error.err_code == TOO_LONG_CODE:
                raise RefusedMessageError(f"{what}: takes no message of this length") from error
            raise UnavailableError(f"{what}: {error}") from error
        except (Error, OSError) as error:
            raise UnavailableError(f"{what}: {_told(error)}") from error

    async def _connected(self, what: str) -> Client:
        """A connection; it is made anew after it was lost. Raises UnavailableError."""
        async with self._connecting:
            if self._client is not None and self._client.is_connected:
                return self._client
            try:
                import nats
                from nats.errors import Error
            except ModuleNotFoundError as error:
                raise MissingDependencyError(
                    f"{what}: a NATS server is told by the package nats-py: pip install nats-py"
                ) from error
            parts = urlsplit(self._destination.url)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    self._client = await nats.connect(
                        f"{parts.scheme}://{parts.hostname}:{parts.port or BROKER_PORT}",
                        name="craqen",
                        # One attempt: who sends tries again, with a rest that grows.
                        allow_reconnect=False,
                        max_reconnect_attempts=1,
                        reconnect_time_wait=0,
                        error_cb=_pass_over,
                        **self._shown(parts.scheme),
                    )
            except TimeoutError as error:
                raise UnavailableError(
                    f"{what}: no connection within {self._timeout_seconds:g} seconds"
                ) from error
            except (Error, OSError) as error:
                raise UnavailableError(f"{what}: cannot be reached: {_told(error)}") from error
            return self._client

    def _shown(self, scheme: str) -> dict[str, Any]:
        """What the server is shown, and asked for."""
        secrets = self._secrets()
        shown: dict[str, Any] = {}
        if scheme == "tls":
            shown["tls"] = self._context or ssl.create_default_context()
        if secrets.token:
            shown["token"] = secrets.token
        elif secrets.user:
            shown.update(user=secrets.user, password=secrets.password)
        return shown

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()


async def _pass_over(error: Exception) -> None:
    """What goes wrong is told to those who send; the library would print it besides."""


def _told(error: BaseException) -> str:
    from nats.js.errors import NoStreamResponseError

    if isinstance(error, NoStreamResponseError):
        return "no JetStream stream takes its subject: make one"
    return str(error) or type(error).__name__
