"""The certificate that is made where none is configured."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from craqen.gateway.tls import make_certificate


def _chain(folder: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((folder / "certificate.pem").read_bytes())


@pytest.mark.parametrize("name", ["localhost", "store.test", "a-bucket.store.test"])
def test_a_strict_client_trusts_the_authority_for_every_name(tmp_path: Path, name: str) -> None:
    make_certificate(tmp_path, "127.0.0.1", ["store.test"])
    server, authority = _chain(tmp_path)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([authority]))
        .time(datetime.datetime.now(datetime.UTC))
        .build_server_verifier(x509.DNSName(name))
    )
    assert verifier.verify(server, []) == [server, authority]


def test_only_the_authority_is_one(tmp_path: Path) -> None:
    make_certificate(tmp_path, "127.0.0.1")
    is_authority = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        for one in _chain(tmp_path)
    ]
    assert is_authority == [False, True]


def test_the_key_fits_and_a_second_call_keeps_both(tmp_path: Path) -> None:
    make_certificate(tmp_path, "127.0.0.1")
    before = (tmp_path / "certificate.pem").read_bytes()
    make_certificate(tmp_path, "127.0.0.1")
    assert (tmp_path / "certificate.pem").read_bytes() == before
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        tmp_path / "certificate.pem", tmp_path / "key.pem"
    )
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
