"""net/auth/lines: who waits for whom, and that nothing is left behind."""

import asyncio

from fastsmtp.net.auth import lines
from fastsmtp.net.auth.lines import Lines
from tests.support.sink import eventually

A, B = b"a", b"b"


def run(work):
    """Run a coroutine function with fresh lines; afterwards no line may be left."""

    async def whole():
        made = Lines()
        await work(made)
        assert len(made) == 0

    asyncio.run(whole())


async def settle():
    """Let every task come as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Tasks that enter one line; `passed` has their names."""

    def __init__(self, made, key=A, places=1):
        self.made, self.key, self.places = made, key, places
        self.passed = []
        self.tasks = {}

    async def come(self, *names):
        for name in names:
            self.tasks[name] = asyncio.create_task(self.enter(name))
            await settle()

    async def enter(self, name):
        await self.made.enter(self.key, self.places)
        self.passed.append(name)

    async def leave(self, **how):
        self.made.leave(self.key, **how)
        await settle()


def test_one_passes_at_a_time_and_keys_do_not_wait_for_each_other():
    async def work(made):
        a, b = Crowd(made), Crowd(made, B)
        await a.come(1, 2)
        await b.come(1)
        assert (a.passed, b.passed) == ([1], [1])
        await a.leave()
        assert a.passed == [1, 2]
        await a.leave()
        await b.leave()

    run(work)


def test_the_newest_is_next_and_the_oldest_after_a_failure():
    async def work(made):
        crowd = Crowd(made)
        await crowd.come(1, 2, 3, 4, 5, 6)
        for failed in (False, True, False, True, False):
            await crowd.leave(failed=failed)
        assert crowd.passed == [1, 6, 2, 3, 5, 4]
        await crowd.leave()

    run(work)


def test_a_place_stays_taken_for_a_while():
    async def work(made):
        crowd = Crowd(made)
        loop = asyncio.get_running_loop()
        await crowd.come(1, 2)
        begun = loop.time()
        await crowd.leave(failed=True, until=begun + 0.2)
        assert crowd.passed == [1]
        await crowd.tasks[2]
        assert loop.time() - begun >= 0.2
        await crowd.leave()

    run(work)


def test_a_line_that_gets_wider_lets_more_pass():
    async def work(made):
        crowd = Crowd(made)
        await crowd.come(1, 2, 3, 4)
        made.widen(A, 3)
        await settle()
        assert sorted(crowd.passed) == [1, 3, 4]
        for _ in range(4):
            await crowd.leave()

    run(work)


def test_who_is_cancelled_gives_its_place_up():
    async def work(made):
        crowd = Crowd(made)
        await crowd.come(1, 2, 3)
        crowd.tasks[2].cancel()  # while it waits
        made.leave(A)  # it is the turn of 3, which does not know it yet
        crowd.tasks[3].cancel()
        await crowd.come(4)
        assert crowd.passed == [1, 4]
        await crowd.leave()

    run(work)


def test_who_is_cancelled_at_the_moment_of_its_turn_is_passed_over():
    async def work(made):
        crowd = Crowd(made)
        await crowd.come(1, 2, 3)
        crowd.tasks[3].cancel()
        await crowd.leave()  # 3 was the next, and has not run since
        assert crowd.passed == [1, 2]
        await crowd.leave()

    run(work)


def test_failures_are_over_one_after_the_other():
    async def work(made):
        await made.enter(A, 2)
        await made.enter(A, 2)
        assert made.over(A, 10.0, 0.5) == 10.5
        assert made.over(A, 10.1, 1.0) == 11.5
        assert made.over(A, 20.0, 1.0) == 21.0
        made.leave(A)
        made.leave(A)

    run(work)


def test_places_that_rest_are_bounded(monkeypatch):
    monkeypatch.setattr(lines, "MOST_RESTING", 10)

    async def work(made):
        until = asyncio.get_running_loop().time() + 0.2
        for number in range(1000):
            await made.enter(b"%d" % number)
            made.leave(b"%d" % number, failed=True, until=until)
            assert len(made) <= 10
        await eventually(lambda: not len(made), 10)

    run(work)
