from fastsmtp._tail import Reader, Tail
from fastsmtp.route import Route

class Encoder:
    """Writes the frames of publishes one behind the other until `take`."""

    def __init__(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        frame_max: int,
        persistent: bool,
        content_encoding: str,
    ) -> None:
        """For one channel (1 to 65535); `exchange` and `routing_key` are for what has no route.

        Everything is published as mandatory. `frame_max` is in octets, as negotiated (0: no
        limit; 128 KiB are used then). Raises ValueError for a name over 255 octets.
        """
    @property
    def size(self) -> int:
        """Octets written since the last `take`."""
    def publish(
        self,
        id: str,
        priority: int | None,
        encoding: str,
        prefix: bytes,
        tail: Tail,
        timestamp: int,
        route: Route | None = None,
        fingerprint: str = "",
    ) -> bool:
        """Write one message, its body being `prefix` + `tail`; True if it is whole now.

        A body that needs several frames is written up to the end of `prefix` only: `slice` gives
        the frames of `tail`, which are the same for all recipients of a message.
        `encoding` is the header mime-encoding, `fingerprint` the header of that name ("": none),
        `timestamp` in seconds. Raises ValueError, and writes nothing, for an id, a fingerprint or a
        name of the route over 255 octets, or a priority that is not 0 to 255.
        """
    def slice(self, rest: Reader, octets: int) -> bytearray:
        """The body frames of the next `octets` bytes of `rest`, fewer only at its end."""
    def take(self) -> bytearray:
        """Everything written; the encoder begins anew."""
