"""Every setting, declared once: type, default, meaning.

The config file, the environment, the command line, `fastsmtp check`, `--help` and the page
docs/settings.md come from these declarations. Reads no file and no environment, except for what
the defaults of `smtp-hostname` and `queue-file` are made of.
"""

import os
import socket
from dataclasses import dataclass, fields
from functools import cache

from fastsmtp import values
from fastsmtp.declaration import Setting, setting
from fastsmtp.values import Network


@cache
def _fqdn() -> str:
    name = socket.gethostname()
    full = name if "." in name else socket.getfqdn(name)
    return full if "." in full else name


def _queue_file() -> str:
    if os.geteuid() == 0:
        return "/var/lib/fastsmtp/queue.db"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{state}/fastsmtp/queue.db"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # it holds passwords
class Settings:
    """The value of every setting: sizes in octets, durations in seconds, addresses canonical."""

    smtp_ip: tuple[str, ...] = setting(
        "Listening",
        values.ADDRESSES,
        "",
        'Addresses to listen on, ";" between. Empty: every address, IPv4 and IPv6.',
    )
    smtp_port: tuple[int, ...] = setting(
        "Listening",
        values.PORTS,
        "25",
        'Plain ports, with STARTTLS where a certificate is set. "none": no plain port; 0: a '
        "free one, named in the ready line.",
    )
    smtp_secure_port: tuple[int, ...] = setting(
        "Listening", values.PORTS, "", "Ports that are TLS from the first byte."
    )
    smtp_hostname: str = setting(
        "Listening",
        values.DOMAIN,
        "",
        "Name in the greeting, the EHLO reply and the JSON.",
        words="the machine's FQDN",
        compute=_fqdn,
    )
    smtp_threads: int = setting(
        "Listening",
        values.THREADS,
        "1",
        'Worker processes that share the listening sockets. "auto": one a CPU.',
    )
    smtp_maxsize: int = setting(
        "Listening", values.SIZE, "100MB", "Largest message content accepted."
    )
    user: str = setting(
        "Listening",
        values.TEXT,
        "",
        "Whom the workers become once the sockets are open.",
    )
    group: str = setting(
        "Listening",
        values.TEXT,
        "",
        "The group that the workers take once the sockets are open.",
    )

    smtp_certificate: tuple[str, ...] = setting(
        "TLS",
        values.PATHS,
        "",
        'PEM file with the certificate and its chain. Several, ";" between, are chosen by SNI.',
    )
    smtp_key: tuple[str, ...] = setting(
        "TLS",
        values.PATHS,
        "",
        'PEM file with the private key; one for each certificate, ";" between.',
    )
    smtp_ciphers: str = setting(
        "TLS",
        values.TEXT,
        "",
        "OpenSSL cipher list for TLS 1.2. Those of 1.3 are always the library's.",
        words="ECDHE+AESGCM:ECDHE+CHACHA20",
    )
    smtp_tls_minimum: str = setting(
        "TLS",
        values.choice("1.2", "1.3"),
        "1.2",
        "Oldest TLS version accepted: 1.2 or 1.3.",
    )

    smtp_range: tuple[Network, ...] = setting(
        "Access",
        values.NETWORKS,
        "",
        "Who may connect. Empty: everyone. Judged on the client's address, behind a proxy too.",
    )
    smtp_username: str = setting(
        "Access",
        values.TEXT,
        "",
        "With smtp-password: a client must AUTH with this pair before MAIL.",
    )
    smtp_password: str = setting(
        "Access", values.SECRET, "", "The password of smtp-username.", secret=True
    )
    smtp_auth: str = setting(
        "Access",
        values.SECRET,  # and what net/auth/backends.py lets pass
        "",
        "More users.",  # goes on with what the back ends say of themselves
        secret=True,
    )
    smtp_insecure_auth: bool = setting("Access", values.BOOLEAN, "false", "Allow AUTH without TLS.")
    smtp_require_tls: bool = setting(
        "Access",
        values.BOOLEAN,
        "false",
        "Before STARTTLS only EHLO, HELO, NOOP, QUIT and STARTTLS are answered, anything else "
        "530 5.7.0. TLS that a proxy in smtp-proxy says it has ended is enough.",
    )
    smtp_proxy: tuple[Network, ...] = setting(
        "Access",
        values.NETWORKS,
        "",
        "Peers that must send a PROXY header (v1 or v2) before anything else.",
    )
    smtp_xclient: tuple[Network, ...] = setting(
        "Access",
        values.NETWORKS,
        "",
        "Peers that may say XCLIENT: who their client is, and which user. Judged on the client's "
        "address, behind a proxy in smtp-proxy too.",
    )
    log_auth_names: bool = setting(
        "Access",
        values.BOOLEAN,
        "false",
        "Name the tried user in the log line of a failed AUTH.",
    )
    smtp_extract: str = setting(
        "Access",
        values.EXTRACT,
        "true",
        "Lift x-mq-* headers: true, false, or trusted (only from clients that authenticated "
        "or are in smtp-trusted).",
    )
    smtp_trusted: tuple[Network, ...] = setting(
        "Access",
        values.NETWORKS,
        "",
        'Whose x-mq-* headers are lifted with "smtp-extract: trusted".',
    )

    smtp_default_ips: tuple[str, ...] = setting(
        "What becomes ips",
        values.ADDRESSES,
        "",
        'The property "ips" where the local address is not used.',
    )
    smtp_mappable_ips: tuple[Network, ...] = setting(
        "What becomes ips",
        values.NETWORKS,
        "",
        'Local addresses that become "ips". Empty: every one, if no proxy stands before us.',
    )
    smtp_unmappable_ips: tuple[Network, ...] = setting(
        "What becomes ips", values.NETWORKS, "", 'Local addresses that never become "ips".'
    )

    smtp_timeout: float = setting(
        "Limits",
        values.DURATION,
        "300",
        "Seconds from a command's first byte to its end, and idle between commands.",
    )
    smtp_minrate: int = setting(
        "Limits",
        values.SIZE,
        "1KB",
        "Content that brings less than this per second over any 60 s, or nothing for "
        "smtp-timeout, ends the session.",
    )
    smtp_session_timeout: float = setting(
        "Limits",
        values.DURATION,
        "1h",
        "A session without an accepted message for so long, or for 1,000 commands, ends.",
    )
    smtp_connections: int = setting(
        "Limits",
        values.integer(1),
        "10000",
        "Open inbound connections over all workers. Never above what the descriptor limit allows.",
    )
    smtp_connections_per_ip: int = setting(
        "Limits",
        values.integer(0),
        "0",
        "The same for one client address (IPv6: one /64). 0: no limit.",
    )
    smtp_maxrecipients: int = setting("Limits", values.integer(1), "1000", "RCPT per message.")
    smtp_maxfanout: int = setting(
        "Limits", values.SIZE, "4GB", "Size times recipients of one message."
    )
    smtp_maxerrors: int = setting(
        "Limits", values.integer(1), "20", "5yz replies since the last accepted message before 421."
    )
    smtp_maxmemory: int = setting(
        "Limits",
        values.SIZE,
        "1GB",
        "Memory for mail of one worker, in every form, and 8 KB per connection, 48 KB with TLS. An "
        "eighth serves messages up to 256 KB alone; larger ones take turns. At least 4 times "
        "smtp-maxsize.",
    )
    smtp_bare_newline: str = setting(
        "Limits",
        values.choice("normalize", "reject", "keep"),
        "normalize",
        "What a lone CR or LF in the content becomes: normalize (LF to CRLF, CR to a space), "
        "reject (550) or keep.",
    )
    json_binary: str = setting(
        "Limits",
        values.choice("base64", "reject"),
        "base64",
        "Content that is not UTF-8: base64, or reject (554; for consumers that know no "
        "mime-encoding).",
    )
    smtp_received: bool = setting(
        "Limits",
        values.BOOLEAN,
        "false",
        "Prepend a Received field (RFC 5321 section 4.4). Off, the MIME stays as it was sent.",
    )
    smtp_grace: float = setting(
        "Limits",
        values.DURATION_OR_ZERO,
        "30",
        "Seconds that a stopping worker gives to mail in flight.",
    )

    rabbitmq_address: tuple[str, ...] = setting(
        "RabbitMQ",
        values.BROKER,
        "amqp://guest:guest@localhost/",
        'amqp://user:pass@host:port/vhost or amqps://. Several URLs with "," between, or '
        'host1;host2 in one, are one cluster. "none": no broker, the embedded queue takes the '
        "mail.",
    )
    rabbitmq_verify: bool = setting(
        "RabbitMQ", values.BOOLEAN, "true", "Verify the broker's certificate."
    )
    rabbitmq_ca: str = setting(
        "RabbitMQ",
        values.PATH,
        "",
        "PEM file with the authorities that may have signed the broker's certificate.",
    )
    rabbitmq_certificate: str = setting(
        "RabbitMQ", values.PATH, "", "PEM file with the certificate that we show to the broker."
    )
    rabbitmq_key: str = setting("RabbitMQ", values.PATH, "", "PEM file with its private key.")
    rabbitmq_outbox: str = setting(
        "RabbitMQ", values.NAME, "outbox", "Name of the queue that a sender reads."
    )
    rabbitmq_inbox: str = setting(
        "RabbitMQ", values.NAME, "", "Queue for accepted mail.", words="value of rabbitmq-outbox"
    )
    rabbitmq_exchange: str = setting(
        "RabbitMQ",
        values.NAME,
        "",
        "Direct exchange to publish to, the queue's name being the routing key. Empty: the "
        "default exchange. With an exchange of one's own, 250 means that at least one bound "
        "queue has it.",
    )
    rabbitmq_declare: bool = setting(
        "RabbitMQ",
        values.BOOLEAN,
        "true",
        "Declare exchange and queue, and bind them, at every connect. A queue that exists "
        "with other arguments is used as it is, with a warning.",
    )
    rabbitmq_durable: bool = setting("RabbitMQ", values.BOOLEAN, "true", "Declare them durable.")
    rabbitmq_queue_type: str = setting(
        "RabbitMQ",
        values.choice("classic", "quorum"),
        "",
        "Type of a declared queue: classic or quorum. Empty: the broker's own default.",
    )
    rabbitmq_lazy: bool = setting(
        "RabbitMQ", values.BOOLEAN, "false", "Declare a classic queue lazy."
    )
    rabbitmq_maxpriority: int | None = setting(
        "RabbitMQ", values.integer(0, 255), "", "Priorities of a declared classic queue."
    )
    rabbitmq_persistent: bool = setting(
        "RabbitMQ",
        values.BOOLEAN,
        "true",
        "Delivery mode 2. False: a confirm does not survive a broker crash.",
    )
    rabbitmq_encoding: str = setting(
        "RabbitMQ", values.choice("gzip"), "", "gzip: compressed body, AMQP content-encoding set."
    )
    rabbitmq_publishers: int = setting(
        "RabbitMQ",
        values.integer(1, 64),
        "1",
        "Connections a worker publishes over (bodies over 1 MiB have one more of their own).",
    )
    rabbitmq_throttle: int = setting(
        "RabbitMQ",
        values.integer(1),
        "1000",
        "Unconfirmed publishes in flight on a connection; also never more than 64 MiB of frames.",
    )
    rabbitmq_timeout: float = setting(
        "RabbitMQ",
        values.DURATION,
        "30",
        "Seconds that one message waits for its confirm; a connection on which nothing moves for "
        "so long is given up.",
    )
    rabbitmq_maxsize: int | None = setting(
        "RabbitMQ",
        values.SIZE,
        "",
        "Largest AMQP body: 128 MiB for 3.x, 16 MiB for 4.x unless set. A 406 that names a "
        "smaller maximum lowers it.",
        words="by broker version",
    )
    rabbitmq_spill: str = setting(
        "RabbitMQ",
        values.PATH,
        "",
        "SQLite file that takes accepted mail while the broker is away. Empty: 451 then.",
    )
    rabbitmq_spill_after: float = setting(
        "RabbitMQ",
        values.DURATION,
        "2s",
        "With a spill: a publish unconfirmed for so long is committed there too and answered. If "
        "its confirm comes after all, the row is deleted unsent.",
    )
    rabbitmq_spill_unroutable: bool = setting(
        "RabbitMQ",
        values.BOOLEAN,
        "false",
        "With a spill: put what the broker returns there, too, instead of answering 451.",
    )
    rabbitmq_spill_nacked: bool = setting(
        "RabbitMQ",
        values.BOOLEAN,
        "false",
        "With a spill: put what a queue of its own accord refuses there, too.",
    )
    rabbitmq_fingerprint: bool = setting(
        "RabbitMQ",
        values.BOOLEAN,
        "false",
        "AMQP header fingerprint, where the content has Message-ID and Date: the same one where a "
        "client sends a message again. SHA-256 in hex over envelope, recipient, content as "
        "received, client address or user.",
    )

    queue_file: str = setting(
        "Without a broker",
        values.PATH,
        "",
        "The embedded queue. Its folder must exist; only that of the default is made.",
        words="/var/lib/fastsmtp/queue.db for root, else $XDG_STATE_HOME/fastsmtp/queue.db",
        compute=_queue_file,
    )
    queue_maxsize: int = setting(
        "Without a broker",
        values.SIZE,
        "10GB",
        "Its size at most, and the spill's. Full: 452 4.3.1.",
    )

    log_level: str = setting(
        "Watching",
        values.choice("debug", "info", "warning", "error"),
        "info",
        "What is logged: debug, info, warning or error, and what is worse.",
    )
    log_format: str = setting(
        "Watching",
        values.choice("text", "json"),
        "text",
        "text or json; one line an event, to standard error.",
    )
    received_log: str = setting(
        "Watching",
        values.PATH,
        "",
        "File with one line per recipient, accepted or refused: tab-separated, or JSON where "
        "log-format is json (MailerQ's received-log-file).",
    )
    log_messages: bool = setting(
        "Watching",
        values.BOOLEAN,
        "false",
        "A line at info for each accepted message: client, user, envelope, size, recipients, ids.",
    )
    metrics_address: tuple[str, int] | None = setting(
        "Watching",
        values.ENDPOINT,
        "",
        "ip:port of an HTTP listener with /metrics (Prometheus), /healthz, /started and /ready.",
    )

    def __post_init__(self) -> None:
        if not self.rabbitmq_inbox:
            object.__setattr__(self, "rabbitmq_inbox", self.rabbitmq_outbox)


SETTINGS: dict[str, Setting] = {
    item.name.replace("_", "-"): item.metadata["setting"] for item in fields(Settings)
}
"""What is declared, by key, in the order of the documentation."""


def attribute(key: str) -> str:
    """The attribute of `Settings` that holds `key`."""
    return key.replace("-", "_")
