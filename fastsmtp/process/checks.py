"""What a configuration must hold beyond the types of its values.

Takes `Settings`, gives findings in words that name no secret. Opens files to see that it may.
"""

import os
from collections.abc import Iterator
from ipaddress import ip_address

from fastsmtp import own_files, values
from fastsmtp.needs import Problem, Use
from fastsmtp.net import tls
from fastsmtp.net.auth import backends, known_clients_file
from fastsmtp.own_files import READ_BY_GROUP
from fastsmtp.process import privileges
from fastsmtp.settings import Settings, attribute
from fastsmtp.sinks import table


def errors(settings: Settings) -> Iterator[Problem]:
    """Everything that keeps the daemon from starting."""
    yield from _contradictions(settings)
    inaccessible = list(_inaccessible(settings))
    yield from inaccessible
    if not any(keys[0] in ("smtp-certificate", "smtp-key") for keys, _ in inaccessible):
        yield from tls.problems(settings)


def warnings(settings: Settings) -> Iterator[str]:
    """What an operator should know before mail comes in."""
    beyond = not settings.smtp_ip or any(not ip_address(ip).is_loopback for ip in settings.smtp_ip)
    if beyond and not (settings.smtp_range or backends.configured(settings)):
        keys = ", ".join(dict.fromkeys(backend.key for backend in backends.BACKENDS))
        yield (
            "anyone may connect, send mail and set x-mq-* headers: smtp-ip is not loopback alone, "
            f"and neither smtp-range nor AUTH ({keys}) is set"
        )
    for backend in backends.BACKENDS:
        yield from backend.warnings(settings)
    if backends.configured(settings):
        uses = [known_clients_file.use(settings)]
        for use, why in privileges.refused(uses, privileges.identity(settings)):
            yield f"AUTH: known clients are forgotten at a restart, {use.path}: {why}"
    yield from table.chosen(settings).warnings(settings)
    yield from _of_others(settings)


def _contradictions(settings: Settings) -> Iterator[Problem]:
    if not settings.smtp_port and not settings.smtp_secure_port:
        yield ("smtp-port", "smtp-secure-port"), "no port to listen on, smtp-secure-port is empty"
    both = sorted({*settings.smtp_port} & {*settings.smtp_secure_port} - {0})
    if both:
        why = f"port {both[0]} cannot be plain and TLS at once"
        yield ("smtp-secure-port", "smtp-port"), why
    if settings.smtp_secure_port and not settings.smtp_certificate:
        yield ("smtp-secure-port", "smtp-certificate"), "needs smtp-certificate"
    if settings.smtp_require_tls and not settings.smtp_certificate:
        yield ("smtp-require-tls", "smtp-certificate"), "needs smtp-certificate"
    for backend in backends.BACKENDS:
        yield from backend.errors(settings)
    if not settings.smtp_certificate and not settings.smtp_insecure_auth:
        for backend in backends.configured(settings):
            keys = (backend.key, "smtp-certificate", "smtp-insecure-auth")
            yield keys, "needs smtp-certificate, or smtp-insecure-auth: true"
    if settings.rabbitmq_spill:
        if not settings.rabbitmq_address:
            yield (
                ("rabbitmq-spill", "rabbitmq-address"),
                "rabbitmq-address is none: the queue file takes all mail, there is no broker to "
                "wait for",
            )
        if os.path.realpath(settings.rabbitmq_spill) == os.path.realpath(settings.queue_file):
            yield (
                ("rabbitmq-spill", "queue-file"),
                f"both are {settings.rabbitmq_spill}: the spill needs a file of its own",
            )
    if settings.smtp_maxmemory < 4 * settings.smtp_maxsize:
        size, memory = values.SIZE.write, settings.smtp_maxmemory
        yield (
            ("smtp-maxmemory", "smtp-maxsize"),
            f"expected at least 4 times smtp-maxsize ({size(settings.smtp_maxsize)}), "
            f"found {size(memory)}",
        )


def _inaccessible(settings: Settings) -> Iterator[Problem]:
    """Files that whoever the workers become cannot read, or write."""
    try:
        identity = privileges.identity(settings)
    except ValueError as error:
        yield ("user", "group"), str(error)
        return
    if identity is not None and os.geteuid() != 0 and not privileges.is_us(identity):
        yield ("user", "group"), "only root can start workers as somebody else"
        return
    read = {
        "smtp-certificate": settings.smtp_certificate,
        "smtp-key": settings.smtp_key,
    } | {key: (getattr(settings, attribute(key)),) for sink in table.SINKS for key in sink.reads}
    uses = [
        Use(key, path, writes=False) for key, paths in read.items() for path in filter(None, paths)
    ]
    for backend in backends.BACKENDS:
        uses.extend(backend.uses(settings))
    uses.extend(_written(settings))
    for use, why in privileges.refused(uses, identity):
        who = f" by {settings.user or settings.group}" if identity else ""
        what = "written" if use.writes else "read"
        yield (use.key,), f"expected a file that can be {what}{who}, found {use.path}: {why}"


def _written(settings: Settings) -> Iterator[Use]:
    """Files that mail or addresses go into, and others of the sink."""
    yield from table.chosen(settings).uses(settings)
    if settings.received_log:
        yield Use("received-log", settings.received_log, writes=True, widest=READ_BY_GROUP)


def _of_others(settings: Settings) -> Iterator[str]:
    """Files that a daemon of root's refuses, where root may be checking for another user's."""
    if os.geteuid() == 0 and not settings.user:
        for use in _written(settings):
            why = own_files.refusal(use.path, use.widest) if use.writes else ""
            if why:
                yield f"{use.key}: {use.path} {why}: right only where the daemon is that user's"
