"""Identity tokens of OpenID Connect issuers, and the keys that they are checked with."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from craqen.core.errors import ConfigError
from craqen.gateway.iam.issuers import Issuers
from craqen.gateway.iam.query import QueryError
from craqen.gateway.iam.tokens import check_token, parse_keys, parse_token

NOW = 1_800_000_000
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def key_set() -> bytes:
    rsa_numbers = RSA_KEY.public_key().public_numbers()
    ec_numbers = EC_KEY.public_key().public_numbers()
    keys = [
        {"kty": "RSA", "kid": "r", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)},
        {
            "kty": "EC",
            "crv": "P-256",
            "kid": "e",
            "x": number(ec_numbers.x),
            "y": number(ec_numbers.y),
            "use": "sig",
        },
        {"kty": "EC", "crv": "P-521", "kid": "other"},
        {"kty": "RSA", "kid": "encrypts", "use": "enc"},
    ]
    return json.dumps({"keys": keys}).encode()


def token(algorithm: str = "RS256", kid: str = "r", /, **changes: Any) -> str:
    claims = {"iss": "https://idp.example/x", "sub": "me", "aud": "app", "exp": NOW + 60} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    head = encoded(json.dumps({"alg": algorithm, "kid": kid}).encode())
    signed = f"{head}.{encoded(json.dumps(claims).encode())}"
    if algorithm == "ES256":
        pair = decode_dss_signature(EC_KEY.sign(signed.encode(), ec.ECDSA(SHA256())))
        signature = b"".join(half.to_bytes(32, "big") for half in pair)
    else:
        signature = RSA_KEY.sign(signed.encode(), padding.PKCS1v15(), SHA256())
    return f"{signed}.{encoded(signature)}"


def check(text: str, now: float = NOW) -> None:
    check_token(parse_token(text), parse_keys(key_set()), now)


def refused(text: str, now: float = NOW) -> str:
    with pytest.raises(QueryError) as caught:
        check(text, now)
    return caught.value.code


def test_tokens_that_hold() -> None:
    check(token())
    check(token("RS256", ""))
    check(token("ES256", "e"))
    check(token(exp=NOW - 30))  # clocks differ a little
    assert parse_token(token(aud=["a", 5, "b"])).audiences == ["a", "b"]


def test_tokens_that_do_not() -> None:
    good = token()
    head, body, signature = good.split(".")
    other = encoded(json.dumps({"sub": "root", "exp": NOW + 60}).encode())
    unsigned = encoded(json.dumps({"alg": "none"}).encode())
    too_many: dict[str, Any] = {f"c{count}": 1 for count in range(80)}
    symmetric = encoded(json.dumps({"alg": "HS256", "kid": "r"}).encode())
    for wrong in (
        f"{head}.{other}.{signature}",
        f"{unsigned}.{body}.",
        f"{symmetric}.{body}.{signature}",
        token("RS256", "unknown"),
        token("ES256", "r"),
        token("RS256", "e"),
        token(exp=None),
        token(exp="soon"),
        token(nbf=NOW + 3600),
        token(iat="now"),
        token(sub=None),
        token(sub=5),
        token(**too_many),
        "",
        "a.b",
        "a.b.c",
        f"{head}.{body}=.{signature}",
        "[]." * 2,
        "x" * 30_000,
        encoded(b"[" * 3000) + f".{body}.{signature}",
    ):
        assert refused(wrong) == "InvalidIdentityToken"
    assert refused(good, NOW + 3600) == "ExpiredTokenException"


def test_key_sets_that_are_none() -> None:
    for wrong in (
        b"",
        b"{}",
        b"[]",
        b'{"keys": 5}',
        b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}',
    ):
        with pytest.raises(ValueError):
            parse_keys(wrong)
    assert parse_keys(b'{"keys": [5, {}]}') == []


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set())
    parsed = parse_token(token())

    async def look() -> int:
        issuers = Issuers([f"https://idp.example/x/={path}"])
        return len(await issuers.keys_for(parsed))

    assert asyncio.run(look()) == 2
    path.write_bytes(b"{")
    with pytest.raises(QueryError) as caught:
        asyncio.run(look())
    assert caught.value.code == "IDPCommunicationError"


def test_an_issuer_that_nobody_named() -> None:
    with pytest.raises(QueryError) as caught:
        asyncio.run(Issuers(["https://other"]).keys_for(parse_token(token())))
    assert caught.value.code == "InvalidIdentityToken"
    with pytest.raises(ConfigError):
        Issuers(["idp.example"])


def test_keys_by_discovery_are_fetched_once() -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        asked.append(path)
        port = writer.get_extra_info("sockname")[1]
        body = json.dumps({"jwks_uri": f"http://127.0.0.1:{port}/keys"}).encode()
        if path == "/keys":
            body = key_set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        issuers = Issuers([issuer])
        for _ in range(2):
            assert len(await issuers.keys_for(parse_token(token(iss=issuer)))) == 2
        await issuers.keys_for(parse_token(token("RS256", "unknown", iss=issuer)))
        server.close()
        await server.wait_closed()

    asyncio.run(test())
    assert asked == ["/.well-known/openid-configuration", "/keys"]


def test_documents_are_bounded() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000))
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        issuers = Issuers([f"https://idp.example/x={url}"])
        with pytest.raises(QueryError) as caught:
            await issuers.keys_for(parse_token(token()))
        assert caught.value.code == "IDPCommunicationError"
        server.close()
        await server.wait_closed()

    asyncio.run(test())
