"""The contract between whoever reads the broker's confirms of publishes and whoever awaits them."""

from typing import Protocol


class ConfirmListener(Protocol):
    """Hears what becomes of the publishes on one channel; delivery tags count from 1.

    Raises ValueError where the broker says what cannot be: the connection is closed then.
    """

    def acked(self, tag: int, multiple: bool) -> None:
        """Basic.Ack; `multiple`: of every publish up to `tag`."""

    def nacked(self, tag: int, multiple: bool) -> None:
        """Basic.Nack: not stored."""

    def returned(self, header: bytes, reason: str) -> None:
        """Basic.Return of the message with this content header frame; its ack follows.

        `reason` is the broker's: "312 NO_ROUTE".
        """
