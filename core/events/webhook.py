"""DRIVER: events as POST requests: bounded in time, no proxies, no redirects."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Callable
from typing import Any

from ..errors import UnavailableError
from .destinations import Destination, Secrets
from .sender import RefusedMessageError

CONNECTIONS_MAX = 16
ANSWER_BYTES_MAX = 64 * 1024
"""Of an answer's body, which nobody reads: a longer one ends the connection."""
ID_HEADER = "X-Craqen-Message-Id"
SIGNATURE_HEADER = "X-Craqen-Signature-256"

REFUSALS = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431})
"""What is said of the message itself. Other errors may be mended: a wrong path or token, too."""


def signature_of(message: bytes, key: str) -> str:
    """What ``SIGNATURE_HEADER`` says: HMAC-SHA256 of the body, in hexadecimal digits."""
    return "sha256=" + hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


class Webhook:
    """``Sender``."""

    def __init__(
        self,
        destination: Destination,
        secrets: Callable[[], Secrets],
        *,
        context: ssl.SSLContext | None,
        timeout_seconds: float,
    ) -> None:
        """*context*: whom to trust; None: whom the host trusts."""
        self._destination = destination
        self._secrets = secrets
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._session: Any = None

    async def send(self, message: bytes, message_id: str) -> None:
        """POST; any status of 2xx is a yes."""
        import aiohttp  # heavy, and needed where somebody is told by HTTP only

        what = f"events.destinations: {self._destination.name}"
        if self._session is None:
            trust = True if self._context is None else self._context
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=trust)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = self._session.post(
                    self._destination.url,
                    data=message,
                    headers=self._headers(message, message_id),
                    allow_redirects=False,
                )
                async with request as response:
                    status: int = response.status
                    await _pass_over(response)
        except TimeoutError as error:
            raise UnavailableError(
                f"{what}: did not answer within {self._timeout_seconds:g} seconds"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{what}: cannot be reached: {error}") from error
        if status in REFUSALS:
            raise RefusedMessageError(f"{what}: answers {status}")
        if not 200 <= status < 300:
            raise UnavailableError(f"{what}: answers {status}")

    def _headers(self, message: bytes, message_id: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Craqen",
            ID_HEADER: message_id,
        }
        secrets = self._secrets()
        if secrets.bearer:
            headers["Authorization"] = f"Bearer {secrets.bearer}"
        if secrets.hmac_key:
            headers[SIGNATURE_HEADER] = signature_of(message, secrets.hmac_key)
        return headers

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


async def _pass_over(response: Any) -> None:
    """Read the body away, so that the connection serves again; a long one is not worth it."""
    passed = 0
    while data := await response.content.read(ANSWER_BYTES_MAX):
        passed += len(data)
        if passed >= ANSWER_BYTES_MAX:
            response.close()
            return
