"""The contract of everything that takes accepted mail: a sink never learns what SMTP is."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply

Outcomes = Sequence[Reply | None]
"""Per recipient, in the order of the message: None where it is stored, else the reply to give."""

Settle = Callable[[Outcomes], None]
"""Called once with what became of a message."""


class Sink(Protocol):
    """Takes messages and settles each later. All calls come from the event loop."""

    async def start(self) -> None:
        """Begin to take mail. A store that is away now is no error: the availability says so.

        Raises OSError or ValueError where the sink can never work as configured; the text says
        what to change.
        """

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        """Take one message, an `Outgoing` for each recipient, at least one.

        `settle` is called exactly once, always later (never inside `put`), from the event loop.
        A recipient's outcome is None only if it is safely stored (confirmed and routed by the
        broker, or committed to disk). A sink that is closed settles too.
        """

    async def close(self, grace: float = 0.0) -> None:
        """Take no more, wait until all that was put is settled, and let go of everything.

        What waits on the disk to be handed on has `grace` seconds for that.
        """

    def __str__(self) -> str:
        """Where the mail goes, for the ready line; without passwords."""
