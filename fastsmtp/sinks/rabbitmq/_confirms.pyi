"""What the broker says of publishes, taken out of the octets that it sends (AMQP 0-9-1 §2.3.5).

Acks, nacks and returns of one channel are told at once; every other frame goes on to whoever else
reads the connection. Reads no socket and knows no publish. Of a frame that is not whole it keeps
a content header at most, whatever the broker sends. Frames that are larger than may be, and what
is said of publishes behind the end of their channel, are errors.
"""

from fastsmtp.sinks.rabbitmq.confirm_listener import ConfirmListener

class Confirms:
    """Everything that one connection's broker sends goes through it."""

    frame_max: int
    """Bytes of a whole frame, as it was negotiated; 128 KiB until then."""

    @property
    def channel(self) -> int:
        """Whose confirms are taken; 0 before `watch`, when everything is others'."""
    def watch(self, channel: int, listener: ConfirmListener | None) -> None:
        """From now on tell `listener` what is said of this channel's publishes; None: nobody."""
    def take(self, data: bytes) -> bytes:
        """Take what came; gives what is others': whole frames but for the first and the last.

        Raises ValueError where the broker does not speak AMQP, and what `listener` raises; the
        connection is of no use then.
        """
