"""Which messages make a commit, in which order, and how the thread learns of the end."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.arrivals import BATCH_BYTES, BATCH_ROWS, LARGE, Arrivals, Put
from fastsmtp.sinks.base import Outcomes


def put(name: str, size: int = 100, recipients: int = 1) -> Put:
    tail = Tail.of(bytes(size))
    rows = [Outgoing(f"{name}.{n}", None, "", b"{", tail) for n in range(recipients)]
    return Put(rows, settle, is_held=False)


def settle(outcomes: Outcomes) -> None:
    """Nobody waits."""


def names(batch: list[Put] | None) -> list[str]:
    assert batch is not None
    return [put.rows[0].id.split(".")[0] for put in batch]


def test_small_messages_do_not_wait_for_all_large_ones() -> None:
    arrivals = Arrivals[None]()
    for name in "ABC":
        arrivals.put(put(name, BATCH_BYTES))
    arrivals.put(put("small"))
    first = names(arrivals.batch(None))
    arrivals.put(put("later"))
    order = [first, *[names(arrivals.batch(None)) for _ in range(4)]]
    assert order == [["small"], ["A"], ["later"], ["B"], ["C"]]


def test_large_messages_do_not_wait_for_all_small_ones() -> None:
    arrivals = Arrivals[None]()
    arrivals.put(put("large", LARGE))
    for number in range(3 * BATCH_ROWS):
        arrivals.put(put(str(number)))
    assert len(names(arrivals.batch(None))) == BATCH_ROWS
    assert names(arrivals.batch(None)) == ["large"]


def test_work_comes_before_the_messages_that_wait() -> None:
    arrivals = Arrivals[None]()
    done: list[str] = []
    arrivals.put(put("first"))
    assert names(arrivals.batch(None)) == ["first"]
    arrivals.put(put("second"))
    arrivals.work(lambda _: done.append("work"))
    arrivals.close()
    assert names(arrivals.batch(None)) == ["second"]
    for work in arrivals.works():
        work(None)
    assert done == ["work"]
    assert arrivals.works() == []
    assert arrivals.batch(None) is None


def test_work_alone_ends_the_wait() -> None:
    arrivals = Arrivals[None]()
    arrivals.work(lambda _: None)
    arrivals.close()
    assert arrivals.batch(None) == []
    assert len(arrivals.works()) == 1
    assert arrivals.batch(None) is None


def test_a_batch_is_bounded() -> None:
    arrivals = Arrivals[None]()
    for _ in range(3):
        arrivals.put(put("many recipients", recipients=BATCH_ROWS))
    assert len(names(arrivals.batch(None))) == 1
    for _ in range(100):
        arrivals.put(put("a megabyte", LARGE - 1))
    arrivals.batch(None), arrivals.batch(None)
    assert len(names(arrivals.batch(None))) == BATCH_BYTES // LARGE


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=60))
def test_everything_comes_once_and_in_its_lane_s_order(sizes: list[tuple[bool, int]]) -> None:
    arrivals = Arrivals[None]()
    for number, (is_large, recipients) in enumerate(sizes):
        arrivals.put(put(str(number), LARGE if is_large else 1, recipients))
    arrivals.close()
    seen: list[int] = []
    while (batch := arrivals.batch(None)) is not None:
        assert batch, "a closed line gives no empty batch"
        seen += [int(name) for name in names(batch)]
    assert sorted(seen) == list(range(len(sizes)))
    for lane in (False, True):
        mine = [number for number in seen if sizes[number][0] is lane]
        assert mine == sorted(mine)


def test_the_timeout_gives_an_empty_batch() -> None:
    assert Arrivals[None]().batch(0.01) == []


def test_a_waiting_thread_hears_of_mail_and_of_the_end() -> None:
    arrivals = Arrivals[None]()
    heard: list[list[str]] = []

    def run() -> None:
        while (batch := arrivals.batch(None)) is not None:
            heard.append(names(batch))

    thread = threading.Thread(target=run)
    thread.start()
    arrivals.put(put("mail"))
    deadline = time.monotonic() + 10
    while not heard and time.monotonic() < deadline:
        time.sleep(0.001)  # looks again
    arrivals.close()
    thread.join(10)
    assert heard == [["mail"]]
    assert not thread.is_alive()
