"""Identity tokens (JWT) of OpenID Connect issuers: form, signature, times. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from .query import QueryError

TOKEN_CHARACTERS_MAX = 20_000  # what AWS takes
KEYS_MAX = 64  # of one issuer
CLOCK_SKEW_SECONDS = 60
CLAIMS_MAX = 64
_RSA_BITS = range(2048, 8193)
_ES256_BYTES = 64

Check = Callable[[bytes, bytes], bool]
"""(signature, signed text): whether the signature holds."""


class Key(NamedTuple):
    """A key of an issuer."""

    key_id: str
    algorithm: str
    check: Check


class Token(NamedTuple):
    """A token, taken apart: nothing of it is proven."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who is said to have made it."""
        value = self.claims.get("iss")
        return value if isinstance(value, str) else ""

    @property
    def audiences(self) -> list[str]:
        """For whom it was made."""
        value = self.claims.get("aud")
        found = value if isinstance(value, list) else [value]
        return [one for one in found if isinstance(one, str)]

    def text(self, claim: str) -> str:
        """A claim that is a text; empty if there is none."""
        value = self.claims.get(claim)
        return value if isinstance(value, str) else ""


def parse_token(text: str) -> Token:
    """Raises QueryError InvalidIdentityToken."""
    try:
        if len(text) > TOKEN_CHARACTERS_MAX:
            raise ValueError
        head, body, signature = text.split(".")
        header = msgspec.json.decode(_decoded(head), type=dict[str, Any])
        claims = msgspec.json.decode(_decoded(body), type=dict[str, Any])
        token = Token(
            str(header.get("alg", "")),
            str(header.get("kid", "")),
            claims,
            f"{head}.{body}".encode(),
            _decoded(signature),
        )
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _invalid("The ID Token provided is not a valid JWT.") from error
    if "crit" in header or len(claims) > CLAIMS_MAX:
        raise _invalid("The ID Token provided has what is not understood here.")
    return token


def check_token(token: Token, keys: list[Key], now_seconds: float) -> None:
    """Check signature and times.

    Raises QueryError: InvalidIdentityToken, ExpiredTokenException.
    """
    fitting = [
        key
        for key in keys
        if key.algorithm == token.algorithm and (not token.key_id or key.key_id == token.key_id)
    ]
    if not any(key.check(token.signature, token.signed) for key in fitting):
        raise _invalid(
            "Couldn't retrieve verification key from your identity provider, or the "
            "token's signature does not hold."
        )
    expires = token.claims.get("exp")
    if not isinstance(expires, int | float):
        raise _invalid("Missing a required claim: exp")
    if now_seconds >= expires + CLOCK_SKEW_SECONDS:
        raise QueryError("ExpiredTokenException", "Token expired")
    for claim in ("nbf", "iat"):
        begins = token.claims.get(claim)
        if begins is None:
            continue
        if not isinstance(begins, int | float) or now_seconds + CLOCK_SKEW_SECONDS < begins:
            raise _invalid("The ID Token provided is not valid yet.")
    if not token.text("sub"):
        raise _invalid("Missing a required claim: sub")


def parse_keys(document: bytes) -> list[Key]:
    """The keys in a JWK set that can be used here. Raises ValueError."""
    parsed = msgspec.json.decode(document, type=dict[str, Any])
    entries = parsed.get("keys")
    if not isinstance(entries, list):
        raise ValueError("there is no list of keys")
    found = []
    for entry in entries[:KEYS_MAX]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        key = _key(entry)
        if key is not None:
            found.append(key)
    return found


def _key(entry: Mapping[str, Any]) -> Key | None:
    """Raises ValueError for a key of a known kind that is none."""
    key_id = str(entry.get("kid", ""))
    kind = entry.get("kty")
    if kind == "RSA":
        public = rsa.RSAPublicNumbers(_number(entry, "e"), _number(entry, "n"))
        if public.n.bit_length() not in _RSA_BITS:
            raise ValueError(f"key {key_id!r} has {public.n.bit_length()} bits")
        return Key(key_id, "RS256", _rsa_check(public.public_key()))
    if kind == "EC" and entry.get("crv") == "P-256":
        point = ec.EllipticCurvePublicNumbers(
            _number(entry, "x"), _number(entry, "y"), ec.SECP256R1()
        )
        return Key(key_id, "ES256", _ec_check(point.public_key()))
    return None


def _rsa_check(key: rsa.RSAPublicKey) -> Check:
    def check(signature: bytes, signed: bytes) -> bool:
        try:
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    return check


def _ec_check(key: ec.EllipticCurvePublicKey) -> Check:
    def check(signature: bytes, signed: bytes) -> bool:
        if len(signature) != _ES256_BYTES:
            return False
        half = _ES256_BYTES // 2
        pair = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        try:
            key.verify(encode_dss_signature(*pair), signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return check


def _number(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"a key has no {name}")
    return int.from_bytes(_decoded(value), "big")


def _decoded(text: str) -> bytes:
    if "=" in text:
        raise ValueError("padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _invalid(message: str) -> QueryError:
    return QueryError("InvalidIdentityToken", message)


def provider_url(url: str) -> str:
    """An issuer's URL without its scheme, as providers are named."""
    return url.partition("://")[2].rstrip("/") if "://" in url else url.rstrip("/")
