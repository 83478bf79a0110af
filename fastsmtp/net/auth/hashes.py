"""Makes a hash of a password, and checks a password against one: argon2, bcrypt or SHA-crypt."""

import argon2
import bcrypt

from fastsmtp.net.auth import libcrypt

_BCRYPT_LONGEST = 72  # bytes of the longest password that bcrypt hashes
# OWASP's second choice: 19 MiB. `verify` takes what a hash says instead.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hashed(password: bytes) -> str:
    """An argon2id hash, as it stands behind the colon in a file of users."""
    return _HASHER.hash(password)


def verify(hashed: str, password: bytes) -> bool:
    """Hash and compare, in a thread: all libraries let others run meanwhile.

    bcrypt and libcrypt end a password at NUL, and at a length. What they would cut is hashed all
    the same, for the time that it takes, and fits nothing. Raises UnavailableError.
    """
    if hashed.startswith("$argon2"):
        try:
            return _HASHER.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False
    text = password.partition(b"\0")[0]
    if hashed.startswith("$2"):
        text = text[:_BCRYPT_LONGEST]
        fits = bcrypt.checkpw(text, hashed.encode())
    else:
        text = text[: libcrypt.LONGEST]
        fits = libcrypt.fits(hashed, text)
    return fits and text == password
