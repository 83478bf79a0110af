"""Plain counters of one worker: whoever does the work adds to them, whoever asks reads them."""


class Metrics:
    """Counts since the worker started."""

    __slots__ = (
        "broker_confirmed",
        "broker_connects",
        "broker_lost",
        "broker_nacked",
        "broker_published",
        "broker_returned",
        "connections",
        "headers_malformed",
        "headers_reserved",
        "messages",
        "octets",
        "recipients",
        "refused",
    )

    def __init__(self) -> None:
        self.connections = 0  # accepted by the listener
        self.messages = 0  # answered with 250
        self.recipients = 0  # of those messages
        self.octets = 0  # content of those messages
        self.refused = 0  # messages that came to their end and were answered otherwise
        self.headers_malformed = 0  # x-mq-* headers whose value is not of the header's type
        self.headers_reserved = 0  # x-mq-* headers whose name is the server's, left in the MIME
        self.broker_connects = 0  # connections to RabbitMQ that came up
        self.broker_published = 0  # publishes that began to leave
        self.broker_confirmed = 0  # of those, acked and not returned
        self.broker_returned = 0  # unroutable
        self.broker_nacked = 0
        self.broker_lost = 0  # no answer before the channel ended
