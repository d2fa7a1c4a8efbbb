"""DRIVER: the keys of OpenID Connect issuers, from where the operator says: a file, a URL, or the
issuer's own discovery document. Fetched when they are needed, and kept for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import ConfigError
from .query import QueryError
from .tokens import Key, Token, parse_keys, provider_url

DOCUMENT_BYTES_MAX = 1 << 20
FETCH_SECONDS_MAX = 10.0
KEPT_SECONDS = 3600.0
REFETCH_SECONDS_MIN = 30.0  # a token with an unknown key makes nobody fetch more often
_DISCOVERY = "/.well-known/openid-configuration"

_log = logging.getLogger("craqen.gateway")


class Issuers:
    """The issuers whose tokens the store can check."""

    def __init__(self, sources: Sequence[str]) -> None:
        """*sources*: ``issuer=file or URL``, or an issuer alone, which is asked itself. Raises
        ConfigError."""
        self._issuers: dict[str, _Issuer] = {}
        for source in sources:
            issuer, _, place = source.partition("=")
            if not issuer.startswith(("https://", "http://")):
                raise ConfigError(
                    f"gateway.oidc_issuers: {source!r}: expected ISSUER, ISSUER=URL or "
                    f"ISSUER=/file, where ISSUER begins with https://"
                )
            self._issuers[provider_url(issuer)] = _Issuer(issuer, place)

    async def keys_for(self, token: Token) -> list[Key]:
        """The keys that *token* may be signed with.

        Raises QueryError: InvalidIdentityToken (an issuer that the operator did not name),
        IDPCommunicationError.
        """
        issuer = self._issuers.get(provider_url(token.issuer))
        if issuer is None:
            raise QueryError(
                "InvalidIdentityToken",
                "No OpenIDConnect provider found in your account for the token's issuer, or its "
                "keys are not configured (gateway.oidc_issuers).",
            )
        return await issuer.keys_for(token.key_id)


class _Issuer:
    def __init__(self, url: str, place: str) -> None:
        self._url = url
        self._place = place
        self._keys: list[Key] = []
        self._fetched_seconds = -KEPT_SECONDS
        self._lock = asyncio.Lock()

    async def keys_for(self, key_id: str) -> list[Key]:
        async with self._lock:
            age_seconds = time.monotonic() - self._fetched_seconds
            is_known = any(key.key_id == key_id for key in self._keys)
            if age_seconds >= KEPT_SECONDS or (not is_known and age_seconds >= REFETCH_SECONDS_MIN):
                await self._fetch()
            return self._keys

    async def _fetch(self) -> None:
        self._fetched_seconds = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                self._keys = parse_keys(await self._document())
        except (OSError, TimeoutError, ValueError) as error:
            _log.warning("the keys of issuer %s could not be had: %s", self._url, error)
            if not self._keys:
                raise QueryError(
                    "IDPCommunicationError", "The identity provider's keys could not be had."
                ) from error

    async def _document(self) -> bytes:
        """Raises OSError, ValueError."""
        if not self._place:
            raw = await _get(self._url.rstrip("/") + _DISCOVERY)
            found = msgspec.json.decode(raw, type=dict[str, Any]).get("jwks_uri")
            if not isinstance(found, str):
                raise ValueError("the discovery document has no jwks_uri")
            return await _get(found)
        if self._place.startswith(("https://", "http://")):
            return await _get(self._place)
        return await asyncio.to_thread(_read, Path(self._place))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(document) > DOCUMENT_BYTES_MAX:
        raise _too_large()
    return document


async def _get(url: str) -> bytes:
    """The document at *url*. Raises OSError, ValueError."""
    from aiohttp import ClientError, ClientSession

    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url[:256]!r} is no URL to fetch")
    try:
        async with (
            ClientSession(auto_decompress=False) as session,
            session.get(
                url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
            ) as response,
        ):
            if response.status != 200:
                raise ValueError(f"{url} answers {response.status}")
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
                if size > DOCUMENT_BYTES_MAX:
                    raise _too_large()
                parts.append(part)
    except ClientError as error:
        raise OSError(f"{url}: {error}") from error
    return b"".join(parts)


def _too_large() -> ValueError:
    return ValueError(f"the document is larger than {DOCUMENT_BYTES_MAX} bytes")
