"""TLS client certificates: who gets in, and who does after the authorities were changed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from craqen.core.errors import ConfigError
from craqen.core.options import Config, GatewayOptions
from craqen.gateway.tls import Certificates
from craqen.tests.gateway.integration.running_gateway import Gateway, running_gateway
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, REGION, SECRET_KEY

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates of clients."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.text = certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, name: str, *, expired: bool = False) -> Path:
        """A file with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), expired=expired)
        path = self._folder / f"{name}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
        return path

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        is_authority: bool = False,
        expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now - DAY if expired else now + DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


@dataclass
class Guarded:
    """A gateway that looks at certificates."""

    gateway: Gateway
    certificates: Certificates
    authorities: Path
    first: Authority
    second: Authority
    folder: Path

    def lets_in(self, certificate: Path | None) -> bool:
        """Whether a client on a new connection is answered."""
        client = boto3.client(
            "s3",
            endpoint_url=f"https://127.0.0.1:{self.gateway.port}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            verify=str(self.folder / "tls" / "certificate.pem"),
            config=BotoConfig(
                client_cert=None if certificate is None else str(certificate),
                retries={"total_max_attempts": 1},
            ),
        )
        try:
            client.list_buckets()
        except BotoCoreError:
            return False
        finally:
            client.close()
        return True


def configured(folder: Path, authorities: Path, *, required: bool) -> Config:
    options = GatewayOptions(tls=True, tls_client_ca=str(authorities), tls_client_required=required)
    return Config(data_folder=str(folder), gateway=options)


@pytest.fixture(params=[True, False], ids=["required", "optional"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(first.text)
    certificates = Certificates(configured(tmp_path, authorities, required=request.param))
    segments = tmp_path / "segments"
    segments.mkdir()
    with running_gateway(segments, context=certificates.context) as gateway:
        yield Guarded(gateway, certificates, authorities, first, second, tmp_path)


def test_who_gets_in(guarded: Guarded, request: pytest.FixtureRequest) -> None:
    is_required = "required" in request.node.name
    assert guarded.lets_in(guarded.first.client("known"))
    assert guarded.lets_in(None) != is_required
    assert not guarded.lets_in(guarded.second.client("foreign"))
    assert not guarded.lets_in(guarded.first.client("late", expired=True))


def test_authorities_change_without_a_restart(guarded: Guarded) -> None:
    old, new = guarded.first.client("old"), guarded.second.client("new")
    assert (guarded.lets_in(old), guarded.lets_in(new)) == (True, False)
    guarded.authorities.write_bytes(guarded.first.text + guarded.second.text)
    guarded.certificates.reload()
    assert (guarded.lets_in(old), guarded.lets_in(new)) == (True, True)
    guarded.authorities.write_bytes(guarded.second.text)
    guarded.certificates.reload()
    assert (guarded.lets_in(old), guarded.lets_in(new)) == (False, True)
    guarded.authorities.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="tls_client_ca"):
        guarded.certificates.reload()
    assert (guarded.lets_in(old), guarded.lets_in(new)) == (False, True)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls_client_ca"):
        Certificates(configured(tmp_path, tmp_path / "missing", required=True))
