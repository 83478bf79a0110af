"""Whatever comes in whatever order: each recipient is answered once, and is stored exactly once."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastsmtp import replies
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.hedge import Hedge

NO_SPACE, NOT_STORED, UNROUTABLE = replies.NO_SPACE, replies.NOT_STORED, replies.UNROUTABLE


class Place:
    """A spill in memory, and the loop; what is to happen later happens when it is told to."""

    def __init__(self, has_room: bool) -> None:
        self.takes_rows = has_room
        self.held: set[str] = set()
        self.released: set[str] = set()
        self.writing: list[tuple[list[str], bool, Settle]] = []
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def spills(self, refusal: Reply) -> bool:
        return refusal in (NOT_STORED, NO_SPACE)

    def doubt(self, hedge: Hedge, position: int, row: Outgoing) -> bool:
        return False

    def write(self, rows: Sequence[Outgoing], is_held: bool, settle: Settle) -> None:
        self.writing.append(([row.id for row in rows], is_held, settle))

    def forget(self, id: str) -> None:
        self.held.remove(id)

    def release(self, id: str) -> None:
        self.held.remove(id)
        self.released.add(id)

    def go_on(self) -> None:
        """Let the loop come round."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def commit(self, works: bool) -> None:
        """End the oldest write."""
        if self.writing:
            ids, is_held, settle = self.writing.pop(0)
            if works:
                (self.held if is_held else self.released).update(ids)
            settle([None if works else NO_SPACE] * len(ids))


USUAL = ["expire", "loop", "commit", "ack"]
OTHERS = ["lost", "return", "full", "give up"]
EVENTS = st.lists(
    st.tuples(st.sampled_from([*USUAL, *OTHERS, *USUAL]), st.integers(0, 1)), max_size=12
)


@settings(max_examples=1000)
@given(st.integers(1, 2), st.sampled_from([True, True, False]), EVENTS)
def test_each_recipient_is_answered_once_and_stored_once(
    recipients: int, has_room: bool, events: list[tuple[str, int]]
) -> None:
    place: Any = Place(has_room)
    settled: list[Outcomes] = []
    rows = [Outgoing(f"id{n}", None, "", b"{", b"}") for n in range(recipients)]
    hedge = Hedge(rows, lambda found: settled.append([*found]), lambda: None, place, place)
    published = dict.fromkeys(range(recipients), True)  # on a channel, and nothing was said of it
    listens = set(published)  # positions of which the hedge wants to hear
    acked: set[str] = set()

    def tell(position: int, refusal: Reply | None) -> None:
        if published.pop(position, False) and position in listens:
            if refusal is None:
                acked.add(f"id{position}")
            hedge.settle(position, refusal)

    for event, position in [*events, *(("end", n) for n in range(recipients))]:
        if event == "ack":
            tell(position, None)
        elif event in ("lost", "end"):
            tell(position, NOT_STORED)
        elif event == "return":
            tell(position, UNROUTABLE)
        elif event == "expire" and position in published and position in listens:
            is_safe = hedge.expire(position)
            assert is_safe == (f"id{position}" in place.held)
        elif event == "give up" and position in published and position in listens:
            if hedge.give_up(position, NOT_STORED):
                listens.discard(position)
        elif event == "loop":
            place.go_on()
        elif event in ("commit", "full"):
            place.commit(event == "commit")
    while place.soon or place.writing:
        place.go_on()
        place.commit(True)

    (outcomes,) = settled
    assert place.held == set()
    for number, outcome in enumerate(outcomes):
        id = f"id{number}"
        assert not (id in acked and id in place.released)
        if outcome is None:
            assert id in acked or id in place.released
