"""DRIVER: a key service that speaks the API of AWS KMS (AWS itself, and those that copy it).

Calls: GenerateDataKey and Decrypt, JSON 1.1, signed with Signature Version 4
(docs.aws.amazon.com/kms/latest/APIReference). The encryption context is ours, and always the same:
that of a request is bound to the object by the store (core/crypt/envelope.py).
"""

from __future__ import annotations

import base64
import binascii
import configparser
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ..clock import Clock
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

CONTEXT = {"application": "craqen"}
_TARGET = "TrentService."  # the service's name in its own API
_ALGORITHM = "AWS4-HMAC-SHA256"
_CONTENT_TYPE = "application/x-amz-json-1.1"

_REFUSED = frozenset(
    {"AccessDeniedException", "DisabledException", "KMSInvalidStateException"}
    | {"InvalidKeyUsageException", "InvalidGrantTokenException"}
)
_UNKNOWN_KEY = frozenset({"NotFoundException", "InvalidArnException", "ValidationException"})
_DAMAGED = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_NOT_US = frozenset(
    {"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}
    | {"InvalidClientTokenId", "IncompleteSignature", "MissingAuthenticationTokenException"}
    | {"SignatureDoesNotMatch", "OptInRequired"}
)


class Credentials(NamedTuple):
    """Whom the service knows us as."""

    access_key: str
    secret_key: str
    session_token: str


class AwsKms:
    """``KeyService``."""

    def __init__(
        self, calls: ServiceCalls, credentials: SecretFile, clock: Clock, *, region: str
    ) -> None:
        self._calls = calls
        self._credentials = credentials
        self._clock = clock
        self._region = region

    async def make(self, key_id: str) -> ServiceKey:
        """GenerateDataKey."""
        document = {"KeyId": key_id, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
        answer = await self._call("GenerateDataKey", key_id, document)
        plaintext, wrapped = self._bytes(answer, "Plaintext"), self._bytes(answer, "CiphertextBlob")
        found = answer.document.get("KeyId")
        if len(plaintext) != DATA_KEY_BYTES or not isinstance(found, str) or not wrapped:
            raise self._no_answer(answer)
        return ServiceKey(found, plaintext, wrapped)

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Decrypt."""
        text = base64.b64encode(wrapped).decode()
        document = {"KeyId": key_id, "CiphertextBlob": text, "EncryptionContext": CONTEXT}
        answer = await self._call("Decrypt", key_id, document)
        plaintext = self._bytes(answer, "Plaintext")
        if len(plaintext) != DATA_KEY_BYTES:
            raise self._no_answer(answer)
        return plaintext

    async def close(self) -> None:
        """Close connections."""
        await self._calls.close()

    async def _call(self, name: str, key_id: str, document: dict[str, Any]) -> Answer:
        body = msgspec.json.encode(document)
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": _TARGET + name}
        answer = await self._calls.post("/", body, headers | self._signed(body, headers))
        if answer.status != 200:
            raise self._error(answer, key_id)
        return answer

    def _error(self, answer: Answer, key_id: str) -> CraqenError:
        code = answer.document.get("__type", "")
        code = code.rpartition("#")[2] if isinstance(code, str) else ""
        text = f"encryption key {key_id}: the key service {self._calls.endpoint} says {code}"
        if code in _UNKNOWN_KEY:
            return NotFoundError(text)
        if code in _REFUSED:
            return PermissionDeniedError(text)
        if code in _DAMAGED:
            return DataLossError(text)
        if code in _NOT_US:
            return ConfigError(f"{text}: check encryption.kms_credentials_file and the clock")
        return self._no_answer(answer)

    def _no_answer(self, answer: Answer) -> KeyServiceUnavailableError:
        code = answer.document.get("__type", "no answer of its API")
        return KeyServiceUnavailableError(
            f"the key service {self._calls.endpoint} answers {answer.status}: {code}"
        )

    def _bytes(self, answer: Answer, name: str) -> bytes:
        try:
            return base64.b64decode(answer.document[name], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            return b""

    def _signed(self, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        """The headers that sign a request to ``/``."""
        credentials = self._read_credentials()
        moment = datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC)
        timestamp = moment.strftime("%Y%m%dT%H%M%SZ")
        more = {"X-Amz-Date": timestamp}
        if credentials.session_token:
            more["X-Amz-Security-Token"] = credentials.session_token
        host = urlsplit(self._calls.endpoint).netloc
        signed = {name.lower(): value for name, value in (headers | more).items()} | {"host": host}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{timestamp[:8]}/{self._region}/kms/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = b"AWS4" + credentials.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        more["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return more

    def _read_credentials(self) -> Credentials:
        """From a file as AWS's tools have it. Raises ConfigError."""
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(self._credentials.text())
            section = parser[parser.sections()[0]]
            return Credentials(
                section["aws_access_key_id"],
                section["aws_secret_access_key"],
                section.get("aws_session_token", ""),
            )
        except (configparser.Error, KeyError, IndexError):
            # Not chained: the parser's message would quote the file.
            raise ConfigError(
                "encryption.kms_credentials_file: expected [default], aws_access_key_id = … and "
                "aws_secret_access_key = …"
            ) from None
