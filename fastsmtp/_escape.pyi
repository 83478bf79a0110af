class Measure:
    """Looks at a text once, part by part: is it UTF-8, how long is it in a JSON string?"""

    @property
    def size(self) -> int:
        """Bytes of the escaped form, without quotes; of no use once the text is not UTF-8."""
    @property
    def is_utf8(self) -> bool:
        """Whether `bytes.decode` would take all that was added."""
    def add(self, octets: bytes | bytearray, start: int, stop: int) -> int:
        """Go on with `octets[start:stop]`; gives 0. Raises ValueError where that is outside."""

def use_avx2(is_wanted: bool) -> bool:
    """Look at 32 bytes at once from now on, or at 16; gives whether it is 32. For tests.

    At first it is 32 where the processor can.
    """
