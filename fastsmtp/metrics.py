"""Counters of one worker, and how each is shown; those of a sink are beside the sink."""

import time

from fastsmtp import __version__, replies
from fastsmtp._durations import Durations
from fastsmtp._sizes import Sizes
from fastsmtp.availability import Availability
from fastsmtp.counters import Counters, Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

REPLY = ("code", "status", "reason")
"""Labels of a `Reply.kind`, whose parts have a space between."""

TLS_FAILURES = (
    *("hung_up", "timeout", "not_tls", "version", "cipher", "alert", "broken", "other"),
)
PROXY_FAILURES = ("missing", "malformed", "timeout", "unfinished", "too_many", "unexpected")

EXPOSED = {
    # Clients
    "connections": Exposed(
        "counter", "fastsmtp_connections", "Client connections that were accepted"
    ),
    "connections_open": Exposed(
        "gauge", "fastsmtp_connections_open", "Client connections that are open"
    ),
    "tls_failures": Exposed(
        "counter",
        "fastsmtp_tls_failures",
        "Clients with which TLS failed: hung_up, timeout (no end of the handshake), not_tls, "
        "version or cipher (none in common), alert (the client's), broken (after the handshake), "
        "other",
        ("reason",),
    ),
    "proxy_failures": Exposed(
        "counter",
        "fastsmtp_proxy_failures",
        "Connections that were closed for want of a good PROXY header: missing, malformed, "
        "timeout, unfinished, too_many (connections); unexpected: refused as a command",
        ("reason",),
    ),
    "authentications": Exposed(
        "counter",
        "fastsmtp_authentications",
        "Credentials that clients gave: accepted, refused, or unavailable where nobody could tell",
        ("outcome",),
    ),
    "replies": Exposed(
        "counter",
        "fastsmtp_replies",
        "SMTP replies; the greeting and the replies to HELO and EHLO are not counted",
        REPLY,
    ),
    # Messages
    "messages": Exposed(
        "counter", "fastsmtp_messages", "Messages accepted: stored for every recipient"
    ),
    "recipients": Exposed("counter", "fastsmtp_recipients", "Recipients of accepted messages"),
    "octets": Exposed("counter", "fastsmtp_content_bytes", "Content of accepted messages in bytes"),
    "message_sizes": Exposed(
        "histogram", "fastsmtp_message_size_bytes", "Content of each accepted message in bytes"
    ),
    "size_limit": Exposed(
        "gauge",
        "fastsmtp_size_limit_bytes",
        "Largest content that is accepted now, EHLO's SIZE: the smallest of all workers",
        combined="min",
    ),
    "body_limit": Exposed(
        "gauge",
        "fastsmtp_body_limit_bytes",
        "Largest JSON that RabbitMQ or the queue file takes, as a 406 of RabbitMQ has lowered it",
        combined="min",
    ),
    "rejected": Exposed(
        "counter",
        "fastsmtp_rejected_messages",
        "Messages that came to their end, or were too large, and were not accepted",
        REPLY,
    ),
    "in_flight": Exposed(
        "gauge", "fastsmtp_messages_in_flight", "Messages whose client waits for the reply"
    ),
    "memory_held": Exposed(
        "gauge",
        "fastsmtp_mail_bytes",
        "Mail that is held in memory, in every form, and 8 KiB per connection, in bytes",
    ),
    "memory_limit": Exposed(
        "gauge",
        "fastsmtp_mail_limit_bytes",
        "What may be held: smtp-maxmemory, times workers. Over it mail is told 452",
    ),
    "reply_seconds": Exposed(
        "histogram", "fastsmtp_reply_seconds", "From the end of a message to the reply"
    ),
    "headers_unknown": Exposed(
        "counter",
        "fastsmtp_unknown_headers",
        "X-MQ-* headers of no known name; they became properties of the JSON",
    ),
    "headers_malformed": Exposed(
        "counter",
        "fastsmtp_malformed_headers",
        "X-MQ-* headers whose value did not parse; they stayed in the MIME",
    ),
    "headers_reserved": Exposed(
        "counter",
        "fastsmtp_reserved_headers",
        "X-MQ-* headers with a name that is the server's; they stayed in the MIME",
    ),
    "certificate_ends": Exposed(
        "gauge",
        "fastsmtp_certificate_expiry_timestamp_seconds",
        "When a certificate that workers use expires, in seconds since 1970",
        ("certificate",),
        combined="min",
    ),
    # Processes
    "workers": Exposed(
        "gauge",
        "fastsmtp_workers",
        "Worker processes that answer, by their version",
        ("version",),
    ),
    "accepting": Exposed(
        "gauge", "fastsmtp_workers_accepting", "Workers that take mail now; /ready fails at 0"
    ),
    "cpu_seconds": Exposed(
        "counter", "fastsmtp_cpu_seconds", "Processor time of the workers in seconds"
    ),
}


class Metrics(Counters):
    """Counts since the worker started."""

    __slots__ = (
        "_included",
        "authentications",
        "connections",
        "connections_open",
        "headers_malformed",
        "headers_reserved",
        "headers_unknown",
        "in_flight",
        "message_sizes",
        "messages",
        "octets",
        "proxy_failures",
        "recipients",
        "rejected",
        "replies",
        "reply_seconds",
        "tls_failures",
    )

    exposed = EXPOSED

    def __init__(self) -> None:
        # Clients
        self.connections = 0  # accepted by the listener
        self.connections_open = 0
        self.authentications = dict.fromkeys(("accepted", "refused", "unavailable"), 0)
        self.tls_failures = dict.fromkeys(TLS_FAILURES, 0)
        self.proxy_failures = dict.fromkeys(PROXY_FAILURES, 0)
        self.replies = dict.fromkeys(replies.KINDS, 0)  # by `Reply.kind`

        # Messages that came to their end
        self.messages = 0  # answered with 250
        self.recipients = 0  # of those messages
        self.octets = 0  # content of those messages
        self.message_sizes = Sizes()  # likewise
        self.rejected: dict[str, int] = {}  # answered otherwise, by `Reply.kind`
        self.in_flight = 0  # not answered yet
        self.reply_seconds = Durations()  # from the end of the content to the answer

        # x-mq-* headers
        self.headers_unknown = 0  # of no known name, lifted as strings
        self.headers_malformed = 0  # the value is not of the header's type, left in the MIME
        self.headers_reserved = 0  # the name is the server's, left in the MIME

        self._included: list[Counters] = []

    def include(self, counters: Counters) -> None:
        """Take `counters`, a sink's for example, into the snapshot."""
        self._included.append(counters)

    def say(self, reply: Reply) -> None:
        """`reply` is given outside a session."""
        self.replies[reply.kind] = self.replies.get(reply.kind, 0) + 1

    def refused(self, refusal: Refusal) -> None:
        """Count it where a message came to its end; `replies` are counted as they are said."""
        if refusal.size is not None:
            kind = refusal.reply.kind
            self.rejected[kind] = self.rejected.get(kind, 0) + 1

    def snapshot(self, availability: Availability) -> Snapshot:
        """Everything, as it is now."""
        found = self.counted()
        for each in self._included:
            found |= each.counted()
        reason = availability.reason
        found["size_limit"] = availability.maxsize
        found["body_limit"] = availability.body_limit
        found["accepting"] = int(not reason)
        found["trouble"] = {reason: 1} if reason else {}
        found["memory_held"] = availability.memory.held
        found["memory_limit"] = availability.memory.limit
        found["workers"] = {__version__: 1}
        found["cpu_seconds"] = time.process_time()
        return found
