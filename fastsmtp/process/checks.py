"""What a configuration must hold beyond the types of its values.

Takes `Settings`, gives findings in words that name no secret. Opens files to see that it may.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from fastsmtp import values
from fastsmtp.settings import SETTINGS, Settings, attribute

Problem = tuple[tuple[str, ...], str]
"""The keys that do not fit, the one to blame first, and why."""


def errors(settings: Settings) -> Iterator[Problem]:
    """Everything that keeps the daemon from starting."""
    yield from _unbuilt(settings)
    yield from _contradictions(settings)
    yield from _unreadable(settings)


def warnings(settings: Settings) -> Iterator[str]:
    """What an operator should know before mail comes in."""
    beyond = not settings.smtp_ip or any(not ip_address(ip).is_loopback for ip in settings.smtp_ip)
    if beyond and not (settings.smtp_range or settings.smtp_username or settings.smtp_auth):
        yield (
            "anyone may connect, send mail and set x-mq-* headers: smtp-ip is not loopback alone, "
            "and neither smtp-range nor AUTH (smtp-username, smtp-auth) is set"
        )
    if settings.rabbitmq_address and not settings.rabbitmq_persistent:
        yield "rabbitmq-persistent is false: confirmed mail does not survive a crash of the broker"


def _unbuilt(settings: Settings) -> Iterator[Problem]:
    for key, about in SETTINGS.items():
        value = getattr(settings, attribute(key))
        if not about.is_built(value):
            which = f"the value {value} is " if about.unbuilt_values else ""
            yield (key,), f"{which}not built yet"


def _contradictions(settings: Settings) -> Iterator[Problem]:
    if not settings.smtp_port and not settings.smtp_secure_port:
        yield ("smtp-port", "smtp-secure-port"), "no port to listen on, smtp-secure-port is empty"
    if settings.smtp_secure_port and not settings.smtp_certificate:
        yield ("smtp-secure-port", "smtp-certificate"), "needs smtp-certificate"
    if settings.smtp_username and not settings.smtp_password:
        yield ("smtp-username", "smtp-password"), "needs smtp-password"
    if settings.smtp_password and not settings.smtp_username:
        yield ("smtp-password", "smtp-username"), "needs smtp-username"
    for key in ("smtp-username", "smtp-auth"):
        given = getattr(settings, attribute(key))
        if given and not settings.smtp_certificate and not settings.smtp_insecure_auth:
            keys = (key, "smtp-certificate", "smtp-insecure-auth")
            yield keys, "needs smtp-certificate, or smtp-insecure-auth: true"
    if settings.smtp_maxmemory < 4 * settings.smtp_maxsize:
        size, memory = values.SIZE.write, settings.smtp_maxmemory
        yield (
            ("smtp-maxmemory", "smtp-maxsize"),
            f"expected at least 4 times smtp-maxsize ({size(settings.smtp_maxsize)}), "
            f"found {size(memory)}",
        )


def _unreadable(settings: Settings) -> Iterator[Problem]:
    files: dict[str, tuple[str, ...]] = {
        "smtp-certificate": settings.smtp_certificate,
        "smtp-key": settings.smtp_key,
        "rabbitmq-ca": (settings.rabbitmq_ca,),
        "rabbitmq-certificate": (settings.rabbitmq_certificate,),
        "rabbitmq-key": (settings.rabbitmq_key,),
    }
    if settings.smtp_auth.startswith("file://"):
        files["smtp-auth"] = (settings.smtp_auth.removeprefix("file://"),)
    for key, paths in files.items():
        for path in filter(None, paths):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                yield (key,), f"expected a file that can be read, found {path}: {error.strerror}"
