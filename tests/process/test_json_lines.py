"""process/json_lines: messages of any length, however they are cut."""

import asyncio

import pytest

from fastsmtp.process.json_lines import line, messages

MESSAGES = [{"snapshot": True}, {"text": "a\nb ü"}, {"long": "x" * 300_000}, {}]


async def read(octets, size, end=None):
    """What is read of `octets` that come `size` at a time, and then the end."""
    reader = asyncio.StreamReader(limit=1000)

    async def feed():
        for start in range(0, len(octets), size):
            reader.feed_data(octets[start : start + size])
            await asyncio.sleep(0)
        reader.set_exception(end) if end else reader.feed_eof()

    feeding = asyncio.create_task(feed())
    found = [message async for message in messages(reader)]
    await feeding
    return found


@pytest.mark.parametrize("size", [7, 1000, 65536, 1 << 20])
def test_however_they_are_cut(size):
    octets = b"".join(map(line, MESSAGES))
    assert asyncio.run(read(octets, size)) == MESSAGES


@pytest.mark.parametrize("end", [None, ConnectionResetError()])
def test_one_that_is_not_finished_is_dropped(end):
    octets = line({"one": 1}) + line({"two": 2})[:-3]
    assert asyncio.run(read(octets, 5, end)) == [{"one": 1}]
