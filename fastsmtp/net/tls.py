"""TLS: what the settings' certificates make of it, kept up to date.

Reads PEM files, tells in words what is wrong with them, picks one by SNI, and notices when they
change on disk. A connection takes the context of the moment: one that has begun keeps its own.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fastsmtp.needs import Problem
from fastsmtp.settings import Settings

if TYPE_CHECKING:
    from cryptography import x509

LATE = ("cryptography.x509",)
"""Modules that only a certificate needs: a tenth of the time of a start without one."""

log = logging.getLogger(__name__)

LOOK_INTERVAL = 20.0
"""Seconds between looks at the files. A change is taken when it has not moved for one."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, where `smtp-ciphers` names none: AEAD with forward secrecy alone."""

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(ValueError):
    """A pair cannot be used: `key` is the setting to blame, the text says why."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, ready for handshakes."""

    path: str  # of the certificate
    names: tuple[str, ...]  # that it is for, lower case
    begins: datetime  # UTC
    ends: datetime
    context: ssl.SSLContext

    def __str__(self) -> str:
        return f"{self.names[0] if self.names else self.path} until {self.ends:%Y-%m-%d}"

    def untimely(self, now: datetime) -> str | None:
        """Why it does not hold at this time, if so."""
        if now > self.ends:
            return f"{self.path} has expired: it was valid until {_minute(self.ends)}"
        if now < self.begins:
            return f"{self.path} is not valid yet: it will be from {_minute(self.begins)}"
        return None


def load(settings: Settings) -> list[Pair]:
    """Every pair of the settings, whatever its dates. Raises CertificateError."""
    certificates, keys = settings.smtp_certificate, settings.smtp_key
    if len(certificates) != len(keys):
        raise CertificateError(
            "smtp-key",
            f"expected as many files as smtp-certificate has ({len(certificates)}), "
            f"found {len(keys)}",
        )
    return [
        _pair(settings, certificate, key)
        for certificate, key in zip(certificates, keys, strict=True)
    ]


def problems(settings: Settings) -> Iterator[Problem]:
    """Everything that speaks against the pairs of the settings now."""
    try:
        _context(settings)
        pairs = load(settings)
    except CertificateError as error:
        yield (error.key, *{"smtp-certificate", "smtp-key"} - {error.key}), str(error)
        return
    now = datetime.now(UTC)
    for pair in pairs:
        why = pair.untimely(now)
        if why is not None:
            yield ("smtp-certificate",), why


def summary(settings: Settings, ports: Collection[int]) -> str:
    """What the ready line says: how TLS begins (`ports`: at once), and what with."""
    if not settings.smtp_certificate:
        return "off"
    ways = ["STARTTLS"] if settings.smtp_port else []
    if ports:
        ways.append(f"port{'s' * (len(ports) > 1)} {', '.join(map(str, sorted(ports)))}")
    text = " and ".join(ways)
    with contextlib.suppress(CertificateError):  # the workers have it, whatever the disk says now
        text += "".join(f", {pair}" for pair in load(settings))
    return text


class Certificates:
    """The pairs of one worker: those on disk, or the last good ones."""

    def __init__(self, settings: Settings) -> None:
        """Raises CertificateError. A pair that has expired is better than none."""
        self._settings = settings
        self._known = _fingerprint(settings)  # of what is used, or was refused
        self._changed = b""  # what was seen at the last look, where it is something else
        self._timer: asyncio.TimerHandle | None = None
        self._take(load(settings))

    @property
    def context(self) -> ssl.SSLContext:
        """For the handshakes that begin now."""
        return self._first.context

    @property
    def ends(self) -> dict[str, float]:
        """When each certificate that is used expires, in seconds since 1970, by its path."""
        return {pair.path: pair.ends.timestamp() for pair in self._pairs}

    def start(self) -> None:
        """Look after the files from now on, on the running loop."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, pairs: list[Pair]) -> None:
        """Use these; the first one where a client names nothing that another is for."""
        self._first = pairs[0]
        self._pairs = pairs
        contexts: dict[str, ssl.SSLContext] = {}
        for pair in pairs:
            for name in pair.names:
                contexts.setdefault(name, pair.context)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            name = (name or "").lower().rstrip(".")
            wildcard = f"*.{name.partition('.')[2]}"
            chosen = contexts.get(name) or contexts.get(wildcard)
            if chosen is not None:
                connection.context = chosen

        if len(pairs) > 1:
            self._first.context.sni_callback = choose

    def _look(self) -> None:
        """A key is written after its certificate: what has just changed may change again."""
        self.start()
        found = _fingerprint(self._settings)
        if found in (self._known, self._changed):
            if found == self._changed:
                self._swap()
                self._known = found
            self._changed = b""
        else:
            self._changed = found

    def _swap(self) -> None:
        why = "; ".join(text for _, text in problems(self._settings))
        try:
            pairs = load(self._settings)
        except CertificateError as error:
            why = str(error)
        if why:
            log.error("the certificate has changed and is refused, the old one stays: %s", why)
            return
        self._take(pairs)
        log.info("the certificate has changed: %s", ", ".join(map(str, pairs)))


def _context(settings: Settings) -> ssl.SSLContext:
    """A context without a certificate. Raises CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.smtp_tls_minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1  # each costs as much as a message's TLS; a session resumed gives one
    try:
        context.set_ciphers(settings.smtp_ciphers or CIPHERS)
    except ssl.SSLError:
        raise CertificateError(
            "smtp-ciphers",
            f"expected an OpenSSL cipher list, found {settings.smtp_ciphers!r}: it names none",
        ) from None
    return context


def _pair(settings: Settings, path: str, key: str) -> Pair:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    except OSError as error:
        raise CertificateError("smtp-certificate", f"{path}: {error.strerror}") from None
    except ValueError:
        raise CertificateError(
            "smtp-certificate", f"expected a certificate and its chain in PEM, found {path}"
        ) from None
    context = _context(settings)
    try:
        context.load_cert_chain(path, key, password=_no_password)
    except ssl.SSLError as error:
        raise _key_error(path, key, error) from None
    except OSError as error:
        raise CertificateError("smtp-key", f"{key}: {error.strerror}") from None
    except _EncryptedError:
        raise CertificateError(
            "smtp-key", f"{key} is encrypted: expected a key without a passphrase"
        ) from None
    return Pair(
        path,
        _names(certificate),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        context,
    )


class _EncryptedError(Exception):
    """OpenSSL asks for a passphrase, which nobody is there to type."""


def _no_password() -> str:
    raise _EncryptedError


def _key_error(path: str, key: str, error: ssl.SSLError) -> CertificateError:
    # The last one: a key of another kind than the certificate's.
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return CertificateError("smtp-key", f"{key} is not the key of {path}")
    if error.reason is None or "PEM" in error.reason or "START_LINE" in error.reason:
        return CertificateError("smtp-key", f"expected a private key in PEM, found {key}")
    words = error.reason.lower().replace("_", " ")
    return CertificateError("smtp-certificate", f"{path} or {key} is refused by OpenSSL: {words}")


def _names(certificate: "x509.Certificate") -> tuple[str, ...]:
    """DNS names, or else the common name (RFC 6125 §6.4.4)."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(each.value) for each in common]
    return tuple(name.lower() for name in names)


def _fingerprint(settings: Settings) -> bytes:
    """Of what is in the files; of why, where one cannot be read."""
    digest = hashlib.sha256()
    for path in (*settings.smtp_certificate, *settings.smtp_key):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            content = str(error).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
