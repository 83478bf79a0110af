"""Keys of MailerQ's own config files, so that an existing file can be used as it is.

A key that MailerQ and fastsmtp share is not listed here. All others are taken under another name
(`ALIASES`, `PARTS`), or named in a warning that says what is therefore not done (`IGNORED`).
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from fastsmtp.settings import SETTINGS
from fastsmtp.values import HOSTS, NAME, SECRET, TEXT, Kind

ALIASES = {
    "received-log-file": "received-log",
    "smtp-defaultip": "smtp-default-ips",
    "smtp-defaultips": "smtp-default-ips",
    "smtp-privatekey": "smtp-key",
    "smtp-ranges": "smtp-range",
    "smtp-secureport": "smtp-secure-port",
}
"""MailerQ's names of settings of ours; a value under such a name is taken."""


class Part(NamedTuple):
    """A key that makes a setting of ours together with others."""

    kind: Kind
    secret: bool = False


BROKER_PARTS = {
    "rabbitmq-host": Part(HOSTS),
    "rabbitmq-user": Part(TEXT),
    "rabbitmq-password": Part(SECRET, secret=True),
    "rabbitmq-vhost": Part(NAME),
}
"""What makes `rabbitmq-address` in files of MailerQ 3, each value raw."""

CONNECTIONS_IN = "smtp-connections-in"
"""The same limit as our `smtp-connections`, which MailerQ counts with outgoing connections."""

PARTS = BROKER_PARTS | {CONNECTIONS_IN: Part(SETTINGS["smtp-connections"].kind)}

_DEFAULT_HOLDS = "the default holds"
_FOREIGN = {
    "rabbitmq-encoding": (r"[\w-]+", "message bodies are not compressed"),
    "rabbitmq-publishers": ("[0-9]+", _DEFAULT_HOLDS),
    "rabbitmq-throttle": ("0", _DEFAULT_HOLDS),
    "smtp-connections": ("0", _DEFAULT_HOLDS),
    CONNECTIONS_IN: ("0", "it sets no limit here, smtp-connections does"),
    "smtp-maxsize": ("0", _DEFAULT_HOLDS),
    "smtp-threads": ("[0-9]+", _DEFAULT_HOLDS),
    "smtp-timeout": ("0", _DEFAULT_HOLDS),
}
"""Values of shared keys that only MailerQ knows, and what holds instead."""

NOT_DONE = {
    "incoming mail is not checked for SPF, DKIM, DMARC or spam": """
        smtp-check smtp-check-dkim smtp-check-dmarc smtp-check-spf spamassassin-host
        spamassassin-port""",
    "no Authentication-Results field is added to incoming mail": """
        smtp-auth-results smtp-authentication-results""",
    "clients are not refused for suspected abuse; smtp-range says who may connect": """
        smtp-protection""",
    "addresses of incoming mail are checked by RFC 5321, neither stricter nor looser": """
        smtp-validate-address""",
    "the DSN extension is always offered to clients": "dsn-advertise",
    "mail for local addresses is published to rabbitmq-inbox like all other mail": """
        rabbitmq-local""",
    "incoming delivery and abuse reports are not told from other mail, and are published to "
    "rabbitmq-inbox": "rabbitmq-reports",
    "refused mail is published nowhere": "rabbitmq-refused",
    "no copy of a message is published to a mirror queue": """
        rabbitmq-mirror rabbitmq-mirror-expire""",
    "no message is published to an error exchange": "error-exchange error-routingkey",
    "content is not stored elsewhere, it travels in the message": """
        storage-address storage-policy storage-threads storage-timeout storage-ttl""",
    "files in a folder are not taken in, mail comes over SMTP alone": """
        spool-delay spool-directory spool-extract spool-fail-directory spool-open-files
        spool-remove spool-threads""",
    "plugins are not loaded, and what they check or change in incoming mail is not done": """
        plugin-directory""",
    "received mail is logged in one text file alone, which received-log names": """
        received-bin-log-file received-log-directory received-log-format received-log-prefix""",
    "the received-log is neither rotated nor compressed; logrotate and a reload do that": """
        received-log-compression received-log-history received-log-maxage
        received-log-maxsize""",
}
"""What is not done with incoming mail, and the keys that ask for it: an operator must know."""

SENDING = "it concerns sending mail, which fastsmtp does not do"

NO_MEANING = {
    SENDING: """
        dns-attempts dns-buffersize dns-capacity dns-expire dns-force dns-getaddrinfo
        dns-helofile dns-interval dns-min-ttl dns-rotate dns-sockets dns-spread dns-threads
        dns-timeout download-bin-log-file download-blacklist download-cache
        download-log-compression download-log-directory download-log-file download-log-format
        download-log-history download-log-maxage download-log-maxsize download-log-prefix
        download-proxy download-ttl download-user-agent download-whitelist dsn-envelope dsn-mta
        dsn-notify dsn-ret max-attempts max-connections max-deliver-time max-delivertime
        proxy-server rabbitmq-consumers rabbitmq-dsn rabbitmq-failure rabbitmq-flush-qos
        rabbitmq-minqos rabbitmq-qos rabbitmq-queues rabbitmq-results rabbitmq-retry
        rabbitmq-success retry-interval send-bin-log-directory send-bin-log-file
        send-bin-log-history send-bin-log-maxage send-bin-log-maxsize send-bin-log-prefix
        send-log-compression send-log-directory send-log-file send-log-format send-log-history
        send-log-maxage send-log-maxsize send-log-prefix smarthost smarthost-password
        smarthost-port smarthost-username smtp-connections-out smtp-sink-address smtp-sink-ip
        smtp-sink-password smtp-sink-port smtp-sink-username storage-reschedule
        validate-envelope validate-recipient""",
    "fastsmtp has no management console like MailerQ's": """
        render-useragent www-auth www-bin-log-file www-cache-control www-certificate
        www-ciphers www-connections www-dir www-host www-ip www-log-compression
        www-log-directory www-log-file www-log-format www-log-history www-log-maxage
        www-log-maxsize www-log-prefix www-password www-port www-private-key www-privatekey
        www-secure-port www-url""",
    "fastsmtp needs no cluster: servers that publish to one broker share nothing else": """
        cluster-address cluster-exchange cluster-host cluster-password cluster-timeout
        cluster-user cluster-verify cluster-vhost""",
    "fastsmtp has no database; settings and lists of addresses in MailerQ's are not read": """
        database database-address database-threads database-ttl database-validate""",
    "the log goes to standard error (log-level, log-format)": """
        application-log error-log error-log-directory error-log-prefix""",
    "no usage statistics are sent to anyone": "heartbeat heartbeat-enabled",
    "fastsmtp needs no license file": "license",
    "fastsmtp writes no lock file": "lock",
    "message identifiers are unique without it": "server-id",
}
"""Why keys are of no use here, and those keys."""

IGNORED = {
    key: why
    for group in (NOT_DONE, NO_MEANING)
    for why, keys in group.items()
    for key in keys.split()
}
"""What the warning says, by key."""

KEYS = (*ALIASES, *PARTS, *IGNORED)
"""Every key of MailerQ's that is no setting of ours by that name."""


def warning(key: str, text: str) -> str | None:
    """What to say about a key of MailerQ's and its value; None for any other key."""
    if key not in IGNORED:
        return None
    if not text:
        return f"{key} of MailerQ has no meaning here and is ignored"
    return f"{key} of MailerQ is ignored: {IGNORED[key]}"


def foreign(key: str, text: str) -> str | None:
    """What holds instead of a value that only MailerQ knows; None for any other value."""
    pattern, instead = _FOREIGN.get(key, ("", ""))
    return instead if instead and re.fullmatch(pattern, text) else None


def address(parts: Mapping[str, Any]) -> str:
    """The `rabbitmq-address` that values of `BROKER_PARTS` make, what is missing as in the default.

    One URL for each host.
    """
    user, password = (
        quote(parts.get(key, "guest"), safe="") for key in ("rabbitmq-user", "rabbitmq-password")
    )
    vhost = parts.get("rabbitmq-vhost", "/")
    path = "" if vhost == "/" else quote(vhost, safe="")
    hosts = parts.get("rabbitmq-host", ("localhost",))
    return ",".join(f"amqp://{user}:{password}@{host}/{path}" for host in hosts)
