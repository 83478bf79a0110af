"""One message on its way to the broker: counts its recipients' outcomes and tells once."""

import logging
from collections.abc import Callable

from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Done

log = logging.getLogger(__name__)


class Delivery:
    """Tells `done` after the last recipient: None if all are stored, else the first failure."""

    __slots__ = ("_done", "_failure", "_finished", "_remaining")

    def __init__(self, recipients: int, done: Done, finished: Callable[[], None]) -> None:
        self._remaining = recipients
        self._done = done
        self._failure: Reply | None = None
        self._finished = finished  # called after `done`

    def settle(self, failure: Reply | None) -> None:
        """What became of one recipient; never from inside the sink's `put`."""
        if failure is not None and self._failure is None:
            self._failure = failure
        self._remaining -= 1
        if self._remaining == 0:
            self._tell()

    def refuse(self, failure: Reply) -> None:
        """No recipient was published: the same for all of them."""
        self._failure = failure
        self._remaining = 0
        self._tell()

    def _tell(self) -> None:
        try:
            self._done(self._failure)
        except Exception:
            # Whoever waited for this message must not stop the confirms of others.
            log.exception("error in what follows a message")
        finally:
            self._finished()
