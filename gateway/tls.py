"""DRIVER: the certificate that https is served with; a self-signed one is made where none is
configured."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..core.errors import ConfigError
from ..core.options import Config

VALID_DAYS = 825  # the longest that common clients accept


class Certificates:
    """The server's TLS context; ``reload`` takes new files for connections that come later."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError if the files cannot be used."""
        options = config.gateway
        if options.tls_certificate:
            self._certificate = Path(options.tls_certificate)
            self._key = Path(options.tls_key or options.tls_certificate)
        else:
            folder = Path(config.data_folder) / "tls"
            self._certificate, self._key = folder / "certificate.pem", folder / "key.pem"
            make_self_signed(folder, options.host)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Read the files again. Raises ConfigError."""
        try:
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"gateway.tls_certificate, gateway.tls_key: {self._certificate}, {self._key}: "
                f"cannot be used: {error}"
            ) from error


def make_self_signed(folder: Path, host: str) -> None:
    """Make certificate.pem and key.pem in *folder* unless they are there. Safe for several
    processes at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "certificate.pem").exists() and (folder / "key.pem").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        _write(
            folder / "key.pem",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            0o600,
        )
        certificate = _certificate(key, host)
        _write(
            folder / "certificate.pem",
            certificate.public_bytes(serialization.Encoding.PEM),
            0o644,
        )
    finally:
        os.close(lock)


def _certificate(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Craqen")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _names(host: str) -> list[x509.GeneralName]:
    """Names of this host, and the address that it listens on."""
    addresses = {"127.0.0.1", "::1"}
    hosts = {"localhost", socket.gethostname()}
    try:
        addresses.add(str(ipaddress.ip_address(host)))
    except ValueError:
        hosts.add(host)
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(hosts)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
    return names


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
