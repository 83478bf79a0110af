SIZE: int
"""Bytes of the largest read."""

class ReadBlock:
    """The memory that a worker's transports read into, one read at a time (a writable buffer)."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """See PEP 688."""
    def take(self, length: int) -> bytes:
        """The first `length` bytes of it, which are written; what follows may be overwritten.

        A large read is given without a copy, and the next one goes into fresh memory.
        """
