"""The memory that mail of one worker may take, and who waits when it is used up.

Whoever holds bytes of mail, in whatever form, reports them here. Over the budget no new mail comes
in. Of the connections that receive content, the oldest alone goes on, so that some mail always
comes to its end.
"""

from typing import Protocol


class Receiver(Protocol):
    """A connection that receives content, and that can be made to wait."""

    def regulate(self) -> None:
        """What `MemoryBudget.must_wait` says may have changed."""


class MemoryBudget:
    """Bytes of mail that are held, and the receivers in their order of arrival."""

    __slots__ = ("_enough", "_receivers", "held", "is_full", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes, smtp-maxmemory
        self.held = 0  # bytes of mail that are held
        self.is_full = False  # from over the limit until there is `_enough` room again
        self._enough = limit - limit // 8  # below it all receivers go on
        self._receivers: dict[Receiver, None] = {}  # the oldest first

    def hold(self, size: int) -> None:
        """Report that `size` bytes more are held; where negative, fewer."""
        self.held += size
        if self.held > self.limit:
            self._fill(True)
        elif self.is_full and self.held <= self._enough:
            self._fill(False)

    def enter(self, receiver: Receiver) -> None:
        """Report that `receiver` expects content. One that has entered keeps its turn."""
        self._receivers[receiver] = None

    def leave(self, receiver: Receiver) -> None:
        """Report that `receiver` expects no more content; one that has not entered may do so."""
        goes_on = self.goes_on(receiver)
        self._receivers.pop(receiver, None)
        if goes_on and self._receivers:
            next(iter(self._receivers)).regulate()

    def goes_on(self, receiver: Receiver) -> bool:
        """Whether `receiver` is the one that goes on while memory is full."""
        return self.is_full and receiver is next(iter(self._receivers), None)

    def must_wait(self, receiver: Receiver) -> bool:
        """Whether no more content may be read from `receiver` for now."""
        return self.is_full and receiver in self._receivers and not self.goes_on(receiver)

    def _fill(self, is_full: bool) -> None:
        if is_full != self.is_full:
            self.is_full = is_full
            for receiver in list(self._receivers):
                receiver.regulate()
