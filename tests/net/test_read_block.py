"""What was read is given as bytes of its own, whatever is read behind it."""

import asyncio
import random

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.net._read_block import SIZE, ReadBlock


def read(block: ReadBlock, data: bytes) -> bytes:
    """Read `data` into it, as a transport does."""
    with memoryview(block) as target:
        target[: len(data)] = data
        return block.take(len(data))


@given(st.lists(st.integers(0, SIZE) | st.sampled_from([1, SIZE - 1, SIZE]), max_size=30))
def test_what_was_read_stays_as_it_was(lengths: list[int]) -> None:
    block = ReadBlock()
    given = [read(block, bytes([n + 1]) * length) for n, length in enumerate(lengths)]
    assert given == [bytes([n + 1]) * length for n, length in enumerate(lengths)]


def test_a_large_read_is_not_copied() -> None:
    block = ReadBlock()
    with memoryview(block) as target:
        target[:5] = b"Hello"
        data = block.take(SIZE)
        assert data[:5] == b"Hello"
        with memoryview(block) as fresh:
            fresh[:5] = b"other"
    assert data[:5] == b"Hello"


@pytest.mark.parametrize("length", [-1, SIZE + 1])
def test_more_than_there_is_cannot_be_taken(length: int) -> None:
    block = ReadBlock()
    with memoryview(block), pytest.raises(ValueError, match="not read"):
        block.take(length)


def test_nothing_was_read_yet() -> None:
    block = ReadBlock()
    with pytest.raises(ValueError, match="not read"):
        block.take(1)
    read(block, bytes(SIZE))
    with pytest.raises(ValueError, match="not read"):
        block.take(1)


class Reader(asyncio.BufferedProtocol):
    def __init__(self, block: ReadBlock) -> None:
        self.block = block
        self.pieces: list[bytes] = []
        self.lost = asyncio.Event()

    def get_buffer(self, sizehint: int) -> ReadBlock:
        return self.block

    def buffer_updated(self, nbytes: int) -> None:
        self.pieces.append(self.block.take(nbytes))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_connections_share_one() -> None:
    """Eight of them, over real sockets, in pieces of every size."""
    block = ReadBlock()
    readers: list[Reader] = []
    chosen = random.Random(1)
    sent = [chosen.randbytes(chosen.choice([100, 5000, 300_000])) for _ in range(8)]

    def accept() -> Reader:
        readers.append(Reader(block))
        return readers[-1]

    async def send(port: int, data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(data), 40_000):
            writer.write(data[start : start + 40_000])
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*[send(port, data) for data in sent])
        await asyncio.gather(*[reader.lost.wait() for reader in readers])
        server.close()

    uvloop.run(main())
    assert sorted(b"".join(reader.pieces) for reader in readers) == sorted(sent)
