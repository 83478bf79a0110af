"""Certificates and keys as PEM files, made for one test."""

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Files(NamedTuple):
    """Where a pair is."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, object]:
        return {"smtp_certificate": self.certificate, "smtp_key": self.key}


def make(
    folder: Path,
    *names: str,
    file: str = "",
    begins: int = -1,
    ends: int = 30,
    kind: str = "ec",
    passphrase: bytes = b"",
) -> Files:
    """A self-signed pair for `names`, valid from so many days from now to so many."""
    names = names or ("mx.example.com",)
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ec":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Files(
        folder / f"{file or names[0].replace('*', 'any')}.crt",
        folder / f"{file or names[0].replace('*', 'any')}.key",
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption(),
        )
    )
    return files


def client(certificate: Path) -> ssl.SSLContext:
    """What a client has that trusts this certificate alone."""
    return ssl.create_default_context(cafile=str(certificate))


def ends(pair: Files) -> str:
    """The day on which it does, as our lines tell it."""
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
