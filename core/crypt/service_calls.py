"""DRIVER: calls of a key service over HTTP: bounded in time and size, no proxies, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError, KeyServiceUnavailableError

ANSWER_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 16
SECRET_FILE_BYTES_MAX = 64 * 1024


class Answer(NamedTuple):
    """What came back."""

    status: int
    document: dict[str, Any]


class ServiceCalls:
    """POSTs to one endpoint."""

    def __init__(self, endpoint: str, *, timeout_seconds: float, ca_file: str) -> None:
        """*endpoint*: its URL, without a slash at the end. *ca_file*: who signed its certificate;
        empty: one that the host trusts. Raises ConfigError."""
        self.endpoint = endpoint.rstrip("/")
        if not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f"encryption.kms_endpoint: {endpoint!r}: expected http:// or https:// and a host"
            )
        self._timeout_seconds = timeout_seconds
        self._context = _context(ca_file)
        self._session: Any = None

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status. Raises KeyServiceUnavailableError."""
        import aiohttp  # heavy, and needed by stores with a key service only

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=self._context)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = self._session.post(
                    self.endpoint + path, data=body, headers=headers, allow_redirects=False
                )
                async with request as response:
                    data = await response.content.read(ANSWER_BYTES_MAX)
                    while len(data) < ANSWER_BYTES_MAX and not response.content.at_eof():
                        data += await response.content.read(ANSWER_BYTES_MAX - len(data))
                    status: int = response.status
        except TimeoutError as error:
            raise KeyServiceUnavailableError(
                f"the key service {self.endpoint} did not answer within "
                f"{self._timeout_seconds:g} seconds"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise KeyServiceUnavailableError(
                f"the key service {self.endpoint} cannot be reached: {error}"
            ) from error
        return Answer(status, _document(data))

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()


class SecretFile:
    """A small file of mode 0600, read again when it has changed."""

    def __init__(self, option: str, path: str) -> None:
        """Raises ConfigError."""
        if not path:
            raise ConfigError(f"encryption.{option}: is needed to use the key service")
        self._option = option
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def text(self) -> str:
        """What is in it. Raises ConfigError."""
        try:
            found = self._path.stat()
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen != self._seen:
                if found.st_mode & 0o077:
                    raise ConfigError(
                        f"encryption.{self._option}: {self._path}: others can read it: "
                        f"chmod 600 {self._path}"
                    )
                with self._path.open("rb") as file:
                    self._text = file.read(SECRET_FILE_BYTES_MAX).decode()
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"encryption.{self._option}: {self._path}: cannot be read: {type(error).__name__}"
            ) from error
        return self._text


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"encryption.kms_ca_file: {ca_file}: cannot be used: {error}") from error


def _document(data: bytes) -> dict[str, Any]:
    """The JSON object that *data* is; empty for anything else."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
