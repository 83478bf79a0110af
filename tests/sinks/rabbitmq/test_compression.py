"""Every body is one gzip member of exactly the body's text, however many share a tail."""

import gzip
import subprocess
import tracemalloc
import zlib

from hypothesis import given
from hypothesis import strategies as st

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks.rabbitmq.compression import STORED, compress

SHARED = st.binary(max_size=3000) | st.integers(0, 300_000).map(
    lambda size: b"a tail " * (size // 7)
)
PREFIXES = st.lists(st.binary(max_size=300), min_size=1, max_size=5)


def message(prefixes: list[bytes], tail: Tail) -> list[Outgoing]:
    return [
        Outgoing(f"id{n}", n, "base64", each, tail, Route.of("", f"q{n}"), n, f"print{n}")
        for n, each in enumerate(prefixes)
    ]


def properties(one: Outgoing) -> tuple[object, ...]:
    return one.id, one.priority, one.encoding, one.route, one.accepted, one.fingerprint


def single_member(body: bytes) -> bytes:
    """The text of `body`, which is one gzip member; raises zlib.error where a checksum is wrong."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = inflate.decompress(body)
    assert inflate.eof, "the member has an end"
    assert not inflate.unused_data, "nothing follows it"
    return text


@given(PREFIXES, SHARED)
def test_each_body_is_one_member(prefixes: list[bytes], shared: bytes) -> None:
    plain = message(prefixes, Tail.of(shared))
    compressed = compress(plain)
    assert [single_member(bytes(each)) for each in compressed] == [
        prefix + shared for prefix in prefixes
    ]
    assert [len(bytes(each)) for each in compressed] == [each.size for each in compressed]
    assert [properties(each) for each in compressed] == [properties(each) for each in plain]


@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 2)), min_size=1, max_size=6))
def test_tails_may_differ(parts: list[tuple[bytes, int]]) -> None:
    tails = [Tail.of(b"%d" % n * 50) for n in range(3)]
    plain = [Outgoing(f"id{n}", None, "", each, tails[t]) for n, (each, t) in enumerate(parts)]
    assert [single_member(bytes(each)) for each in compress(plain)] == [
        bytes(each) for each in plain
    ]


def test_a_prefix_longer_than_a_stored_block() -> None:
    prefixes = [b"x" * (2 * STORED + 1), b"y" * STORED, b""]
    for prefix, each in zip(prefixes, compress(message(prefixes, Tail.of(b"tail"))), strict=True):
        assert single_member(bytes(each)) == prefix + b"tail"


def test_programs_read_it() -> None:
    prefixes = [b'{"recipient":"%d@example.org"' % n for n in range(20)]
    tail = Tail.of(b',"mime":"' + b"Hello, all of you. " * 50_000 + b'"}')
    for prefix, each in zip(prefixes, compress(message(prefixes, tail)), strict=True):
        assert gzip.decompress(bytes(each)) == prefix + bytes(tail)
    shown = subprocess.run(["gzip", "-dc"], input=bytes(each), capture_output=True, check=True)
    assert shown.stdout == prefix + bytes(tail)


def test_what_recipients_share_is_kept_once() -> None:
    shared = Tail.of(b"".join(b"%08x" % zlib.crc32(b"%d" % n) for n in range(100_000)))
    tracemalloc.start()
    try:
        compressed = compress(message([b"%d" % n for n in range(100)], shared))
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.5 * compressed[0].size
