"""A message becomes what is published: one `Outgoing` a recipient."""


class Outgoing:
    """One recipient's message, ready for a sink. Its JSON body is `prefix` + `tail`.

    All recipients of a message share one `tail` object, so a sink may frame it once.
    """

    __slots__ = ("encoding", "id", "prefix", "priority", "tail")

    def __init__(
        self,
        id: str,
        priority: int | None,
        encoding: str,
        prefix: bytes,
        tail: bytes | bytearray,
    ) -> None:
        self.id = id  # the property message-id: letters and digits, fresh for every acceptance
        self.priority = priority  # AMQP priority, 0 to 255
        self.encoding = encoding  # "" or the property mime-encoding
        self.prefix = prefix
        self.tail = tail

    @property
    def size(self) -> int:
        """Octets of the body."""
        return len(self.prefix) + len(self.tail)
