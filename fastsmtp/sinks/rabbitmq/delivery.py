"""One message on its way to the broker: collects its recipients' outcomes and settles once.

Whoever can do without the broker's answer overrides `expire` and `give_up`.
"""

import logging
from collections.abc import Callable

from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Settle

log = logging.getLogger(__name__)


class Delivery:
    """Calls `settle` after the last recipient's outcome is known."""

    __slots__ = ("_finished", "_outcomes", "_settle", "remaining")

    def __init__(self, recipients: int, settle: Settle, finished: Callable[[], None]) -> None:
        self.remaining = recipients
        self._outcomes: list[Reply | None] = [None] * recipients
        self._settle = settle
        self._finished = finished  # called after `settle`

    def settle(self, position: int, refusal: Reply | None) -> None:
        """Take the outcome of one recipient; never from inside the sink's `put`."""
        if refusal is not None:
            self._outcomes[position] = refusal
        self.remaining -= 1
        if self.remaining == 0:
            self._end()

    def expire(self, position: int) -> bool:
        """A recipient's publish is old and unanswered: whether it is safe elsewhere by now.

        What the broker says of it is told nevertheless.
        """
        return False

    def give_up(self, position: int, refusal: Reply) -> bool:
        """The wait for the broker's answer to a publish is over; whether nobody needs that now."""
        self.settle(position, refusal)
        return True

    def settle_all(self, refusal: Reply) -> None:
        """Take the same outcome for all recipients: none was published."""
        self._outcomes = [refusal] * len(self._outcomes)
        self.remaining = 0
        self._end()

    def _end(self) -> None:
        try:
            self._settle(self._outcomes)
        except Exception:
            # Whoever waited for this message must not stop the confirms of others.
            log.exception("error in what follows a message")
        finally:
            self._finished()
