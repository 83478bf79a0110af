"""Keys of MailerQ's own config files, so that an existing file can be used as it is.

A key of MailerQ that is a setting of ours too is not listed here.
"""

ALIASES = {"received-log-file": "received-log"}
"""MailerQ's names of settings of ours; a value under such a name is taken."""

NOT_DONE = {
    "smtp-check": "incoming mail is not checked for SPF, DKIM or DMARC",
    "rabbitmq-local": "mail for local addresses is published to rabbitmq-inbox like all other mail",
    "rabbitmq-reports": "incoming delivery and abuse reports are not told from other mail, "
    "and are published to rabbitmq-inbox",
    "rabbitmq-refused": "refused mail is published nowhere",
}
"""Keys that ask for something that an operator must know is not done."""

INSTEAD = {
    "rabbitmq-host": "rabbitmq-address",
    "rabbitmq-password": "rabbitmq-address",
    "rabbitmq-user": "rabbitmq-address",
    "rabbitmq-vhost": "rabbitmq-address",
    "smtp-connections-in": "smtp-connections",
    "smtp-defaultip": "smtp-default-ips",
    "smtp-defaultips": "smtp-default-ips",
    "smtp-privatekey": "smtp-key",
    "smtp-ranges": "smtp-range",
}
"""Older names whose value is not taken, and the setting to use."""

_NAMES = """
    application-log cluster-address cluster-exchange cluster-host cluster-password
    cluster-timeout cluster-user cluster-verify cluster-vhost database database-address
    database-threads database-ttl database-validate dns-attempts dns-buffersize dns-force
    dns-getaddrinfo dns-helofile dns-interval dns-min-ttl dns-rotate dns-threads dns-timeout
    download-bin-log-file download-blacklist download-cache download-log-compression
    download-log-directory download-log-file download-log-format download-log-history
    download-log-maxage download-log-maxsize download-log-prefix download-proxy download-ttl
    download-user-agent download-whitelist dsn-advertise dsn-envelope dsn-mta dsn-notify
    dsn-ret error-exchange error-log error-log-directory error-log-prefix error-routingkey
    heartbeat heartbeat-enabled license lock max-attempts max-connections max-deliver-time
    max-delivertime plugin-directory proxy-server rabbitmq-consumers rabbitmq-dsn
    rabbitmq-failure rabbitmq-flush-qos rabbitmq-minqos rabbitmq-mirror rabbitmq-mirror-expire
    rabbitmq-qos rabbitmq-queues rabbitmq-results rabbitmq-retry rabbitmq-success
    received-bin-log-file received-log-compression received-log-directory received-log-format
    received-log-history received-log-maxage received-log-maxsize received-log-prefix
    retry-interval send-bin-log-directory send-bin-log-file send-bin-log-history
    send-bin-log-maxage send-bin-log-maxsize send-bin-log-prefix send-log-compression
    send-log-directory send-log-file send-log-format send-log-history send-log-maxage
    send-log-maxsize send-log-prefix server-id smarthost smarthost-password smarthost-port
    smarthost-username smtp-auth-results smtp-authentication-results smtp-check-dkim
    smtp-check-dmarc smtp-check-spf smtp-connections-out smtp-protection smtp-sink-address
    smtp-sink-ip smtp-sink-password smtp-sink-port smtp-sink-username smtp-validate-address
    spamassassin-host spamassassin-port spool-delay spool-directory spool-extract
    spool-fail-directory spool-open-files spool-remove spool-threads storage-address
    storage-policy storage-reschedule storage-threads storage-timeout storage-ttl
    validate-envelope validate-recipient www-auth www-bin-log-file www-cache-control
    www-certificate www-ciphers www-connections www-dir www-host www-ip www-log-compression
    www-log-directory www-log-file www-log-format www-log-history www-log-maxage
    www-log-maxsize www-log-prefix www-password www-port www-private-key www-privatekey
    www-secure-port www-url
"""
IGNORED = frozenset(_NAMES.split())
"""Keys that have no meaning here."""


def warning(key: str, text: str) -> str | None:
    """What to say about a key of MailerQ's and its value; None for any other key."""
    if key in NOT_DONE and text:
        return f"{key} of MailerQ is ignored: {NOT_DONE[key]}"
    if key in INSTEAD and text:
        return f"{key} of MailerQ is ignored: use {INSTEAD[key]}"
    if key in NOT_DONE or key in INSTEAD or key in IGNORED:
        return f"{key} of MailerQ has no meaning here and is ignored"
    return None
