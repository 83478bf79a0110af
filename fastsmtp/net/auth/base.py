"""What a back end of AUTH is: somewhere that knows users and their passwords.

A back end is one file: a class that says which settings ask for it and what is wrong with them,
and that checks passwords. One row of `backends.BACKENDS` makes it known.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Self

from fastsmtp.needs import Problem, Use
from fastsmtp.settings import Settings


class UnavailableError(Exception):
    """It cannot be asked now; the text says why and holds nothing secret."""


class Backend(ABC):
    """One source of users.

    `uses`, `errors` and `warnings` are for `fastsmtp check` and the start. They are called whether
    or not the settings ask for the back end, in commands that need no library of it.
    """

    late: ClassVar[tuple[str, ...]] = ()
    """Modules that `make` imports, because they need a library. A worker process has imported them
    before it changes to `user`, who may not be allowed to read them."""

    key: ClassVar[str]
    """The setting that asks for it."""

    @classmethod
    @abstractmethod
    def is_configured(cls, settings: Settings) -> bool:
        """Whether the settings ask for it."""

    @classmethod
    def uses(cls, settings: Settings) -> Iterable[Use]:
        """Files that the worker processes must be able to read."""
        return ()

    @classmethod
    def errors(cls, settings: Settings) -> Iterable[Problem]:
        """What keeps the daemon from starting, besides those files."""
        return ()

    @classmethod
    def warnings(cls, settings: Settings) -> Iterable[str]:
        """What an operator should know before mail comes in."""
        return ()

    @classmethod
    @abstractmethod
    def make(cls, settings: Settings) -> Self:
        """Make the one that a worker asks. Raises OSError or ValueError."""

    @abstractmethod
    async def check(self, user: str, password: bytes) -> bool:
        """Whether `user` exists and has this password.

        A wrong password and an unknown user cost the same work. Raises UnavailableError.
        """


class SchemeBackend(Backend):
    """A back end that a value of `smtp-auth` with its scheme asks for."""

    key = "smtp-auth"

    scheme: ClassVar[str]
    """What the value begins with, such as `file://`."""

    rest: ClassVar[str]
    """The regular expression of all that follows."""

    form: ClassVar[str]
    """The whole value as documentation and errors write it."""

    note: ClassVar[str] = ""
    """What documentation adds to `form`."""

    @abstractmethod
    def __init__(self, url: str) -> None:
        """`url` is the value of `smtp-auth`. Raises OSError or ValueError."""

    @classmethod
    def is_configured(cls, settings: Settings) -> bool:
        """See `Backend.is_configured`."""
        return settings.smtp_auth.startswith(cls.scheme)

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """See `Backend.make`."""
        return cls(settings.smtp_auth)
