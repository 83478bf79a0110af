"""Identifiers of published messages.

Unique over workers, hosts and restarts, whatever the clock does: 60 random bits drawn when the
process starts, and a counter. The time in front only makes them sort.
"""

import secrets
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that is taken for another."""

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]

TIME_DIGITS = 10  # milliseconds since 1970 in 48 bits
COUNTER_DIGITS = 8
NONCE_DIGITS = 12


def _base32(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        text = ALPHABET[number & 31] + text
        number >>= 5
    return text


class Ids:
    """Makes identifiers of 30 letters and digits; one object a process."""

    __slots__ = ("_count", "_counted", "_nonce", "_second", "_time")

    def __init__(self) -> None:
        self._nonce = _base32(secrets.randbits(NONCE_DIGITS * 5), NONCE_DIGITS)
        self._count = 0
        self._second = 0  # 1,024 milliseconds
        # Their digits, less the last two, which are looked up
        self._time = _base32(0, TIME_DIGITS - 2)
        self._counted = _base32(0, COUNTER_DIGITS - 2)

    def fresh(self) -> str:
        """An identifier that was never given before."""
        nanosecond = time.time_ns()
        millisecond = nanosecond // 1_000_000
        if millisecond >> 10 != self._second:
            self._second = millisecond >> 10
            self._time = _base32(self._second, TIME_DIGITS - 2)
        count = self._count = self._count + 1
        if not count & 1023:
            self._counted = _base32(count >> 10, COUNTER_DIGITS - 2)
        return (
            f"{self._time}{_PAIRS[millisecond & 1023]}"
            f"{self._counted}{_PAIRS[count & 1023]}{self._nonce}"
        )
