"""DRIVER: the certificate that https is served with; where none is configured one is made, by an
authority of its own.

The authority and the server are two certificates, because some clients (those on rustls) refuse a
server that shows an authority's. The authority's key is thrown away as soon as it has signed.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
            make_certificate(folder, options.host, options.base_domains)
        self._client_authorities = options.tls_client_ca
        self._verify_mode = ssl.CERT_NONE
        if self._client_authorities:
            must = options.tls_client_required
            self._verify_mode = ssl.CERT_REQUIRED if must else ssl.CERT_OPTIONAL
        self._current = self.context = self._new_context()
        if self._client_authorities:
            # A context learns authorities and never forgets one: each handshake takes the newest.
            self.context.sni_callback = self._use_current

    def reload(self) -> None:
        """Read the files again; if they cannot be used, those read before stay. Raises
        ConfigError."""
        context = self._new_context()
        if self._client_authorities:
            self._current = context
        else:
            self.context.load_cert_chain(self._certificate, self._key)

    def _use_current(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.verify_mode = self._verify_mode
        if self._client_authorities:
            # A session that is taken up again would not show its certificate again, whoever may
            # have been struck off meanwhile. In TLS 1.3 there is none without tickets.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
            try:
                context.load_verify_locations(cafile=self._client_authorities)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"gateway.tls_client_ca: {self._client_authorities}: cannot be used: {error}"
                ) from error
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"gateway.tls_certificate, gateway.tls_key: {self._certificate}, {self._key}: "
                f"cannot be used: {error}"
            ) from error
        return context


def make_certificate(folder: Path, host: str, base_domains: Sequence[str] = ()) -> None:
    """Make certificate.pem (the server's, then its authority's: the file to trust) and key.pem in
    *folder* unless they are there; it is good for *host*, this host, and buckets as hosts of
    *base_domains*. Safe for several processes at once."""
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
        chain = _chain(key, _names(host, base_domains))
        _write(
            folder / "certificate.pem",
            b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain),
            0o644,
        )
    finally:
        os.close(lock)


def _chain(
    key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName]
) -> tuple[x509.Certificate, x509.Certificate]:
    """The server's certificate over *key*, and that of the authority that signed it."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Craqen authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Craqen")])
    signer = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _certificate(issuer, issuer, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(signer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _certificate(subject, issuer, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return server, authority


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(host: str, base_domains: Sequence[str]) -> list[x509.GeneralName]:
    """Names of this host, the address that it listens on, and the buckets' hosts."""
    addresses = {"127.0.0.1", "::1"}
    hosts = {"localhost", socket.gethostname()}
    try:
        addresses.add(str(ipaddress.ip_address(host)))
    except ValueError:
        hosts.add(host)
    for domain in base_domains:
        hosts |= {domain, f"*.{domain}"}
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
