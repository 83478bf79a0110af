"""What a sink's package says about it before it is made: when it is chosen, and what it needs.

Knows no sink; `table.SINKS` lists them. Commands import the choices of all sinks, so a module
with a choice imports no library that takes a while: `late` names what needs one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Generic, NamedTuple, TypeVar

from fastsmtp.availability import Availability
from fastsmtp.counters import Counters, Snapshot
from fastsmtp.needs import Use
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink

C = TypeVar("C", bound=Counters)


class Verdict(NamedTuple):
    """What mail would meet, in words without passwords."""

    accepted: bool
    good: list[str]  # lines that are good news
    bad: list[str]  # lines that say what is wrong


class Choice(ABC, Generic[C]):
    """One kind of sink, a row of `table.SINKS`.

    All methods but `is_chosen` are called where it is chosen.
    """

    late: ClassVar[tuple[str, ...]] = ()
    """Modules that `make` imports. A worker process has imported them before it changes to `user`,
    who may not be allowed to read them."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Settings of paths whose files the worker processes must be able to read, chosen or not."""

    counters: ClassVar[type[Counters]] = Counters
    """What a worker counts of it, and how that is shown. Every worker has one of each sink, so that
    the counters of a sink that is not chosen are shown at 0. Its module imports no library."""

    @abstractmethod
    def is_chosen(self, settings: Settings) -> bool:
        """Whether the settings send mail there; of the table's rows the first one holds."""

    def uses(self, settings: Settings) -> Iterable[Use]:
        """Other files that the worker processes must be able to read or write."""
        return ()

    def warnings(self, settings: Settings) -> Iterable[str]:
        """What an operator should know before mail comes in."""
        return ()

    @abstractmethod
    def make(
        self, settings: Settings, availability: Availability, counters: C, worker: int
    ) -> Sink:
        """Make the one sink of a worker process, which adds to `counters`.

        `worker` counts the processes of a generation from 0. Raises OSError or ValueError.
        """

    @abstractmethod
    async def examine(self, settings: Settings) -> Verdict:
        """Look whether mail would be accepted now, for `check --connect`; stores nothing.

        May block. Raises OSError or ValueError where the settings can never work.
        """

    def snapshot(self, settings: Settings) -> Snapshot:
        """What is true once for all worker processes, besides what each of them counts.

        Blocks: call it in a thread.
        """
        return {}
