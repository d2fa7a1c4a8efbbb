"""DRIVER: the transit engine of HashiCorp Vault or OpenBao as a key service.

Calls: ``datakey/plaintext/NAME`` and ``decrypt/NAME`` (developer.hashicorp.com/vault/api-docs/
secret/transit), with a token from a file, which is read again when an agent has renewed it.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from ..errors import (
    ConfigError,
    CraqenError,
    DataLossError,
    KeyServiceUnavailableError,
    NotFoundError,
    PermissionDeniedError,
)
from .key_service import ServiceKey
from .pages import DATA_KEY_BYTES
from .service_calls import Answer, SecretFile, ServiceCalls

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND = 400, 403, 404
_TOO_OLD = "disallowed by policy"
_NO_KEY = "key not found"


class VaultTransit:
    """``KeyService``."""

    def __init__(
        self, calls: ServiceCalls, token: SecretFile, *, mount: str, namespace: str
    ) -> None:
        """*mount*: where the engine is, such as ``transit``."""
        self._calls = calls
        self._token = token
        self._path = f"/v1/{mount.strip('/')}"
        self._namespace = namespace

    async def make(self, key_id: str) -> ServiceKey:
        """datakey."""
        data = await self._call("datakey/plaintext", key_id, {"bits": 8 * DATA_KEY_BYTES})
        plaintext, wrapped = _key_bytes(data), data.get("ciphertext")
        if plaintext is None or not isinstance(wrapped, str) or not wrapped.startswith("vault:"):
            raise self._no_answer("what is no data key")
        return ServiceKey(key_id, plaintext, wrapped.encode())

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """decrypt."""
        data = await self._call("decrypt", key_id, {"ciphertext": wrapped.decode("latin-1")})
        plaintext = _key_bytes(data)
        if plaintext is None:
            raise self._no_answer("what is no data key")
        return plaintext

    async def close(self) -> None:
        """Close connections."""
        await self._calls.close()

    async def _call(self, verb: str, key_id: str, document: dict[str, Any]) -> dict[str, Any]:
        if not _NAME.fullmatch(key_id) or key_id.strip(".") == "":
            raise NotFoundError(f"encryption key {key_id}: not a name that Vault allows")
        headers = {"X-Vault-Token": self._token.text().strip(), "X-Vault-Request": "true"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        body = msgspec.json.encode(document)
        answer = await self._calls.post(f"{self._path}/{verb}/{key_id}", body, headers)
        if answer.status != 200:
            raise self._error(answer, key_id)
        data = answer.document.get("data")
        return data if isinstance(data, dict) else {}

    def _error(self, answer: Answer, key_id: str) -> CraqenError:
        errors = answer.document.get("errors")
        said = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
        text = f"encryption key {key_id}: the key service {self._calls.endpoint} says {said!r}"
        if answer.status == _BAD_REQUEST and _NO_KEY in said:
            return NotFoundError(text)
        if answer.status == _FORBIDDEN or (answer.status == _BAD_REQUEST and _TOO_OLD in said):
            return PermissionDeniedError(text)
        if answer.status == _BAD_REQUEST:
            return DataLossError(text)
        if answer.status == _NOT_FOUND:
            return ConfigError(f"{text}: check encryption.kms_endpoint and encryption.kms_mount")
        return self._no_answer(f"{answer.status}: {said}")

    def _no_answer(self, what: str) -> KeyServiceUnavailableError:
        return KeyServiceUnavailableError(f"the key service {self._calls.endpoint} answers {what}")


def _key_bytes(data: dict[str, Any]) -> bytes | None:
    try:
        plaintext = base64.b64decode(data["plaintext"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    return plaintext if len(plaintext) == DATA_KEY_BYTES else None
