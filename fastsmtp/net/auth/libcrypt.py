"""SHA-crypt by the system's libcrypt: hashes that `mkpasswd -m sha-512` and `openssl passwd` make.

Takes a hash (`$5$…` or `$6$…`) and a password, says whether they fit. Other threads run while it
hashes. Python's own module for this is gone since 3.13.
"""

import ctypes
import re
from functools import cache
from hmac import compare_digest
from typing import Any

from fastsmtp.net.auth.base import UnavailableError

LONGEST = 511
"""Bytes of the longest password that libcrypt hashes."""

ROUNDS = range(1000, 1_000_001)
"""What a hash may ask for. libcrypt takes no fewer, and would take 999,999,999: five minutes."""

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")

# Bytes of `struct crypt_data`: 32 KiB in libxcrypt, a little over 128 KiB in glibc's old libcrypt.
_CRYPT_DATA = 132 * 1024

# Salts have the characters that libxcrypt takes. A hash's last character holds 4 bits, or 2.
_SALT = r"(?:rounds=([1-9][0-9]*)\$)?(?!rounds=)[\"#%-)+-9<-\[\]-~]{0,16}\$"
_HASH = re.compile(
    rf"\$5\${_SALT}[./0-9A-Za-z]{{42}}[./0-9A-D]|\$6\${_SALT}[./0-9A-Za-z]{{85}}[./01]"
)


def problem(hashed: str) -> str:
    """Why `hashed` is of no use to `fits`, else ""."""
    match = _HASH.fullmatch(hashed)
    if match is None:
        return "not a whole $5$ or $6$ hash"
    rounds = match[1] or match[2]
    if rounds and (len(rounds) > 7 or int(rounds) not in ROUNDS):
        return f"rounds= must be {ROUNDS[0]} to {ROUNDS[-1]}"
    return ""


def fits(hashed: str, password: bytes) -> bool:
    """Whether `hashed` is the hash of `password`, which has no NUL and LONGEST bytes at most.

    Raises UnavailableError where the system has no libcrypt.
    """
    stored = hashed.encode()
    # A failure is "*0" or "*1", in old versions NULL.
    made = crypt_r()(password, stored, ctypes.create_string_buffer(_CRYPT_DATA))
    return compare_digest(made or b"", stored)


@cache
def crypt_r() -> Any:
    """The function of that name. Raises UnavailableError where the system has no libcrypt."""
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        function.restype = ctypes.c_char_p
        return function
    raise UnavailableError(
        f"$5$ and $6$ hashes need {_LIBRARIES[0]}: install the package libcrypt1 (Debian, Ubuntu) "
        "or libxcrypt (Fedora)"
    )
