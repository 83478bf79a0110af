"""Everybody has a turn, in order, a few in each round of the event loop."""

import asyncio

from fastsmtp.net.turns import ROUND, Turns


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)  # one round of the event loop


def test_a_round_is_bounded_and_keeps_the_order() -> None:
    async def main() -> None:
        turns, done = Turns(), []
        for number in range(2 * ROUND + 1):
            turns.add(lambda number=number: done.append(number))
        assert done == []
        seen = []
        for _ in range(4):
            await rounds(1)
            seen.append(len(done))
        assert seen == [ROUND, 2 * ROUND, 2 * ROUND + 1, 2 * ROUND + 1]
        assert done == sorted(done)

    asyncio.run(main())


def test_whoever_goes_on_again_waits_behind_the_others() -> None:
    async def main() -> None:
        turns, done = Turns(), []

        def again(name: str, times: int) -> None:
            done.append(name)
            if times:
                turns.add(lambda: again(name, times - 1))

        for name in "abc":
            turns.add(lambda name=name: again(name, 2))
        await rounds(10)
        assert "".join(done) == "abcabcabc"

    asyncio.run(main())
