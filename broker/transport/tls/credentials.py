"""The server's certificate, its key, and the authorities of clients' certificates: read from files, and checked."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from broker.config.secret_files import read_secret
from broker.config.settings import ServerSettings
from broker.errors import ConfigurationError

if TYPE_CHECKING:  # a server without TLS starts without cryptography
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

PROTOCOLS = ["http/1.1"]
"""What is offered by ALPN (RFC 7301); HTTP/2 is spoken by nothing here."""

MAX_FILE_BYTES = 1 << 20
"""Limit for a file of certificates: reading a device such as /dev/zero would never end."""

CERTIFICATE, KEY, CLIENT_CA = "server.tls_cert_file", "server.tls_key_file", "server.tls_client_ca_file"


@attrs.frozen
class Credentials:
    """The certificate, the key and the rules of the handshakes of new connections."""

    context: ssl.SSLContext = attrs.field(repr=False)
    not_before: float
    """Since when the certificate is valid, in Unix seconds."""
    expires_at: float
    """Until when, in Unix seconds."""

    def warning(self, now: float) -> str | None:
        """Return why clients will refuse the certificate at the Unix time `now`, None if they need not."""
        if now > self.expires_at:
            return f"the certificate expired at {shown_time(self.expires_at)}: clients will refuse it"
        if now < self.not_before:
            return f"the certificate is valid from {shown_time(self.not_before)} on: clients will refuse it until then"
        return None


def load_credentials(server: ServerSettings) -> Credentials | None:
    """Read the files that the settings name, blocking; None if they name no certificate.

    :raises ConfigurationError: in one line, which begins with the setting.
    """
    if server.tls_cert_file is None or server.tls_key_file is None:
        return None
    certificates = _read_certificates(CERTIFICATE, Path(server.tls_cert_file))
    _check_key(certificates, Path(server.tls_cert_file), Path(server.tls_key_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(PROTOCOLS)
    try:
        context.load_cert_chain(server.tls_cert_file, server.tls_key_file, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        # They can be read: such as a key too small for OpenSSL, or a file that has changed just now.
        reason = _reason(error)
        raise ConfigurationError(
            f"{CERTIFICATE}: {server.tls_cert_file} with {server.tls_key_file} cannot be used: {reason}"
        ) from None
    if server.tls_client_ca_file is not None:
        _trust_clients(context, Path(server.tls_client_ca_file))
    own = certificates[0]
    return Credentials(context, own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp())


def _read_certificates(setting: str, path: Path) -> "list[x509.Certificate]":
    from cryptography import x509  # noqa: PLC0415

    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {_reason(error)}") from None
    try:
        certificates = x509.load_pem_x509_certificates(data) if len(data) <= MAX_FILE_BYTES else []
    except ValueError:
        certificates = []
    if not certificates:
        raise ConfigurationError(f"{setting}: {path} must hold certificates in PEM form")
    return certificates


def _check_key(certificates: "list[x509.Certificate]", certificate_path: Path, path: Path) -> None:
    """Check that `path` holds the key of the first certificate, as OpenSSL wants it."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        text = read_secret(path)
        key = load_pem_private_key(text.encode(), password=None)
    except ConfigurationError as error:
        raise ConfigurationError(f"{KEY}: {error}") from None
    except TypeError:
        problem = f"{path} is encrypted, and a server that starts by itself has no passphrase: decrypt it, for example by openssl pkey"
        raise ConfigurationError(f"{KEY}: {problem}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{KEY}: {path} must hold a private key in PEM form") from None
    own = _bytes_of(key.public_key())  # type: ignore[arg-type]  # X25519 keys are in no certificate
    places = [index for index, one in enumerate(certificates) if _bytes_of(one.public_key()) == own]
    if not places:
        raise ConfigurationError(f"{KEY}: {path} is not the key of the certificate in {certificate_path}")
    if places[0]:
        raise ConfigurationError(
            f"{CERTIFICATE}: {certificate_path} must begin with the server's own certificate, before those that signed it"
        )


def _bytes_of(key: "CertificatePublicKeyTypes") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _trust_clients(context: ssl.SSLContext, path: Path) -> None:
    """Ask clients for a certificate, which they need not have; one that they show must be signed by an authority."""
    _read_certificates(CLIENT_CA, path)
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{CLIENT_CA}: {path} cannot be used: {_reason(error)}") from None
    context.verify_mode = ssl.CERT_OPTIONAL


def shown_time(seconds: float) -> str:
    """Return Unix seconds as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no reason is known").lower().replace("_", " ")
    return str((isinstance(error, OSError) and error.strerror) or error)
