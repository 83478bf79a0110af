"""One message that goes to the broker, and to the spill where that takes too long or fails.

Each recipient is answered once, as soon as the one or the other has it. A row of the spill whose
publish is still unanswered is held: the broker's word deletes it or releases it, see `spill_file`.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Protocol

from fastsmtp import replies
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.rabbitmq.delivery import Delivery


class Place(Protocol):
    """Where rows go; see `spill.Spill`."""

    @property
    def takes_rows(self) -> bool:
        """There is room, and nothing went wrong just now."""

    def spills(self, refusal: Reply) -> bool:
        """Whether a recipient with this outcome at the broker is to be stored here."""

    def doubt(self, hedge: "Hedge", position: int, row: Outgoing) -> bool:
        """The broker nacked a recipient: whether it will be settled later, once it is known why."""

    def write(self, rows: Sequence[Outgoing], is_held: bool, settle: Settle) -> None:
        """Store `rows`; `settle` as in `base.Sink.put`."""

    def forget(self, id: str) -> None:
        """The broker has what this row holds."""

    def release(self, id: str) -> None:
        """The broker will say no more of this row."""


class State(Enum):
    """Of a recipient that is held, or will be."""

    WRITING = auto()
    CONFIRMED = auto()  # while it was written
    ENDED = auto()  # as well, with any other word
    STORED = auto()


class Hedge(Delivery):
    """Collects its recipients' outcomes and settles once, as every `Delivery`."""

    __slots__ = ("_broken", "_late", "_loop", "_message", "_place", "_states")

    def __init__(
        self,
        message: Sequence[Outgoing],
        settle: Settle,
        finished: Callable[[], None],
        place: Place,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(len(message), settle, finished)
        self._message = message
        self._place = place
        self._loop = loop
        self._states: dict[int, tuple[State, str]] = {}  # by position; and the row's id
        self._late: list[int] = []  # positions that will be written, and held
        self._broken: list[int] = []  # that will be written, and are on no channel

    # What the broker says

    def settle(self, position: int, refusal: Reply | None) -> None:
        """See `Delivery.settle`."""
        state, id = self._states.get(position, (None, ""))
        if state is State.STORED:
            del self._states[position]
            if refusal is None:
                self._place.forget(id)
            else:
                self._place.release(id)
        elif state is not None:
            self._states[position] = (State.CONFIRMED if refusal is None else State.ENDED, id)
            if refusal is None:
                super().settle(position, None)
        elif refusal is None:
            super().settle(position, None)
        elif self._place.spills(refusal):
            self.store(position)
        elif refusal is not replies.NACKED or not self._doubt(position):
            super().settle(position, refusal)

    def settle_all(self, refusal: Reply) -> None:
        """See `Delivery.settle_all`."""
        for position in range(len(self._message)):
            self.settle(position, refusal)

    def _doubt(self, position: int) -> bool:
        return self._place.doubt(self, position, self._message[position])

    def end_doubt(self, position: int, outcome: Reply | None) -> None:
        """Settle a recipient that is in doubt."""
        super().settle(position, outcome)

    # What takes too long

    def expire(self, position: int) -> bool:
        """See `Delivery.expire`."""
        state, _ = self._states.get(position, (None, ""))
        if state is None and self._place.takes_rows:
            id = self._message[position].id
            self._states[position] = (State.WRITING, id)
            self._write_soon(self._late, position)
        return state is State.STORED

    def give_up(self, position: int, refusal: Reply) -> bool:
        """See `Delivery.give_up`: a row that is held still needs the broker's answer."""
        if position in self._states:
            return False
        super().settle(position, refusal)
        return True

    # The rows

    def store(self, position: int) -> None:
        """Store a recipient that is on no channel (any more)."""
        self._write_soon(self._broken, position)

    def _write_soon(self, positions: list[int], position: int) -> None:
        """What comes together in one round of the loop is written together."""
        if not self._late and not self._broken:
            self._loop.call_soon(self._write)
        positions.append(position)

    def _write(self) -> None:
        late, self._late = [*filter(self._is_still_late, self._late)], []
        broken, self._broken = self._broken, []
        for positions, is_held in ((late, True), (broken, False)):
            if positions:
                rows = [self._message[position] for position in positions]
                self._place.write(rows, is_held, partial(self._written, positions, is_held))

    def _is_still_late(self, position: int) -> bool:
        """Nothing was heard of it since it was to be written."""
        state, _ = self._states[position]
        if state is State.WRITING:
            return True
        del self._states[position]
        if state is State.ENDED:
            self._broken.append(position)
        return False

    def _written(self, positions: list[int], is_held: bool, outcomes: Outcomes) -> None:
        for position, outcome in zip(positions, outcomes, strict=True):
            if not is_held:
                super().settle(position, outcome)
            elif outcome is None:
                self._stored(position)
            else:
                self._not_stored(position, outcome)
        if not self.remaining:
            self._message = ()  # of what is held, the broker's word is all that is missing

    def _stored(self, position: int) -> None:
        state, id = self._states.pop(position)
        if state is State.CONFIRMED:
            self._place.forget(id)
            return
        if state is State.ENDED:
            self._place.release(id)
        else:
            self._states[position] = (State.STORED, id)
        super().settle(position, None)

    def _not_stored(self, position: int, refusal: Reply) -> None:
        """The spill did not take what is on a channel; while it is there, it may be confirmed."""
        state, _ = self._states.pop(position)
        if state is State.ENDED:
            super().settle(position, refusal)
