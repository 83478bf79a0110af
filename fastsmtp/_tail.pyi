from typing import Self

class Tail:
    """The JSON text that all recipients of a message share; it follows each one's prefix.

    It holds the content as it came. `bytes(tail)` is the whole text.
    """

    @property
    def encoding(self) -> str:
        """The property `mime-encoding`, "" where there is none."""
    @property
    def size(self) -> int:
        """Bytes of the text."""
    @property
    def held(self) -> int:
        """Bytes of memory that it keeps: pieces of content count as a whole."""
    @staticmethod
    def of(text: bytes | bytearray) -> Tail:
        """Take a text that is made already."""
    @staticmethod
    def plain(pieces: list[bytes], end: bytes) -> Tail:
        """Take `pieces` and `end` as they are, one behind the other; `end` is not in `held`."""
    @staticmethod
    def text(head: bytes, spans: list[tuple[bytes | bytearray, int, int]], size: int) -> Tail:
        """End `head`, an object's text up to a string's first quote, with the content.

        A span is (octets, start, stop); the content is all of them. `size` is the content's
        `_escape.Measure.size`.
        """
    @staticmethod
    def base64(head: bytes, spans: list[tuple[bytes | bytearray, int, int]]) -> Tail:
        """The same with the content as base64."""
    def made(self) -> Tail:
        """The same text, made at once: where it is short and read often."""
    def __bytes__(self) -> bytes: ...

class Reader:
    """Goes through a `Tail` once."""

    def __new__(cls, tail: Tail) -> Self: ...
    @property
    def tail(self) -> Tail: ...
    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
    def read(self, octets: int) -> bytes:
        """The next bytes of the text: `octets` of them, fewer only at the end."""
