from collections.abc import Callable
from typing import Self

KEEP: int
"""A lone CR or LF stays as it is."""
NORMALIZE: int
"""A lone LF becomes CRLF, a lone CR a space."""
REJECT: int
"""Lone CRs and LFs stay; `Content.has_bare` tells of them."""

class Content:
    """One message's content while it arrives."""

    def __new__(cls, newlines: int, limit: int) -> Self:
        """`newlines` is KEEP, NORMALIZE or REJECT, `limit` the most octets that are kept."""
    @property
    def pieces(self) -> list[bytes]:
        """The content in order; whole after the end, empty where it was too large."""
    @property
    def size(self) -> int:
        """Octets after unstuffing, before newlines are repaired."""
    @property
    def held(self) -> int:
        """Octets that are kept."""
    @property
    def too_large(self) -> bool:
        """More than `limit` octets came; nothing is kept any more."""
    @property
    def has_bare(self) -> bool:
        """A CR or LF alone was seen."""
    def feed_data(self, data: bytes, start: int) -> int:
        """Take what follows 354 from `data[start:]`; where the end is there, the offset behind it.

        Gives -1 while the end has not come. The end is CRLF "." CRLF, or "." CRLF at the start,
        and nothing else (RFC 5321 §4.1.1.4); dots are unstuffed after CRLF and at the start only
        (§4.5.2).
        """
    def feed_chunk(self, data: bytes, start: int, stop: int) -> int:
        """Take `data[start:stop]` of a BDAT chunk: no dots, no end inside (RFC 3030 §2)."""
    def overflow(self) -> int:
        """More than `limit` octets are announced: keep nothing from now on."""
    def finish(self) -> int:
        """No more comes (BDAT LAST): what was held back is content too."""

class HeaderScan:
    """A walk over the header block of a message, in steps, that counts and cuts fields."""

    def __new__(
        cls, content: bytes | bytearray, lift: Callable[[str, int, int, int], bool] | None
    ) -> Self:
        """`content` holds the whole header block; lines end at CRLF.

        `lift(name, start, stop, octets)` is called for each field X-MQ-name (name in lower case,
        without the prefix): its value is at `content[start:stop]`, the whole field has `octets`.
        Where it says true, the field is cut out. None: X-MQ fields are like any other.
        """
    @property
    def received(self) -> int:
        """Received fields so far."""
    @property
    def has_message_id(self) -> bool:
        """A field Message-ID with more than white space in it was seen."""
    @property
    def has_date(self) -> bool:
        """The same of a field Date."""
    @property
    def cuts(self) -> list[tuple[int, int]]:
        """(start, stop) of each field that `lift` took, in order."""
    @property
    def needs_more(self) -> bool:
        """Whether the walk ended where `content` does: what follows may belong to the block."""
    def run(self, octets: int) -> bool:
        """Walk on over at least `octets` more; true when the end of the block is reached.

        The block ends at the first empty line or the first line that is no field.
        """

def unfold(content: bytes | bytearray, start: int, stop: int) -> bytes:
    """Give a field's value: each line end with the white space behind it is one space, trimmed."""
