"""What a back end of AUTH is: somewhere that knows users and their passwords."""

from typing import Protocol


class UnavailableError(Exception):
    """It cannot be asked now; the text says why and holds nothing secret."""


class Backend(Protocol):
    """One source of users."""

    async def check(self, user: str, password: bytes) -> bool:
        """Whether `user` exists and has this password.

        A wrong password and an unknown user cost the same work. Raises UnavailableError.
        """
