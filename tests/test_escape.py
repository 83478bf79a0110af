"""_escape and _tail: the text of a content is what orjson and base64 make of the whole."""

import base64
import itertools
import os
import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp._escape import Measure, use_avx2
from fastsmtp._tail import Reader, Tail

HEAD = b'{"mime":"'

# What bytes.decode() refuses and takes, at the edges of each range (RFC 3629 §4).
FIRST = bytes.fromhex("7F 80 BF C0 C1 C2 DF E0 E1 EC ED EE EF F0 F1 F3 F4 F5 FF")
EDGES = [
    bytes(each)
    for first in FIRST
    for second in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    for each in (
        [first],
        [first, second],
        [first, second, 0x80],
        [first, second, 0x80, 0xBF],
        [first, second, 0xBF, 0x7F],
    )
]
WORDS = st.sampled_from(
    [
        *(
            b"\r\n",
            b'"',
            b"\\",
            b"\0",
            b"\x0b",
            b"\x7f",
            b"x" * 76 + b"\r\n",
            b"y" * 128,
            b"z" * 127,
        ),
        *("é".encode(), "€".encode(), "😀".encode(), b"\xff", b"\xc3", b"\xed\xa0\x80"),
    ]
)
CONTENT = st.one_of(st.binary(max_size=400), st.lists(WORDS, max_size=30).map(b"".join))


def spans(content, cuts):
    """The content in pieces, each amid something else."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(content)), len(content)]
    kinds = itertools.cycle((bytes, bytearray))
    return [
        (kind(b"\xff\0" + content[start:stop] + b'"'), 2, 2 + stop - start)
        for kind, (start, stop) in zip(kinds, itertools.pairwise(edges), strict=False)
    ]


def measured(pieces):
    measure = Measure()
    for octets, start, stop in pieces:
        measure.add(octets, start, stop)
    return measure


def in_reads(tail, sizes):
    """The whole text in reads of these sizes, over and over."""
    reader = Reader(tail)
    parts = []
    for size in itertools.cycle(sizes):
        parts.append(reader.read(size))
        if len(parts[-1]) < size:
            break
    assert reader.left == 0
    return b"".join(parts)


def check(content, cuts=(), sizes=(7,)):
    pieces = spans(content, cuts)
    try:
        text = orjson.dumps(content.decode())
    except UnicodeDecodeError:
        text = None
    for is_wanted in (False, True):
        use_avx2(is_wanted)
        check_text(pieces, text, sizes)
    tail = Tail.base64(HEAD, pieces)
    whole = HEAD + base64.b64encode(content) + b'"}'
    assert (bytes(tail), tail.size) == (whole, len(whole))
    assert in_reads(tail, sizes) == whole
    made = tail.made()
    assert (bytes(made), made.size, made.held) == (whole, len(whole), len(whole))
    assert made.encoding == tail.encoding == "base64"


def check_text(pieces, text, sizes):
    measure = measured(pieces)
    assert measure.is_utf8 == (text is not None)
    if text is not None:
        assert measure.size == len(text) - 2
        tail = Tail.text(HEAD, pieces, measure.size)
        whole = HEAD + text[1:] + b"}"
        assert (bytes(tail), tail.size) == (whole, len(whole))
        assert in_reads(tail, sizes) == whole
        assert tail.held == sum(len(each[0]) for each in pieces) + len(HEAD)


@given(CONTENT, st.lists(st.integers(0, 400)), st.lists(st.integers(1, 90), min_size=1))
def test_any_content_in_any_pieces_and_reads(content, cuts, sizes):
    check(content, cuts, sizes)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_anywhere_in_a_block(octet):
    for before in [*range(66), *range(120, 130), 255, 256]:
        check(b"a" * before + bytes([octet]) + b"b" * (420 - before), sizes=[before + 15, 31])


@pytest.mark.parametrize("before", [0, 31, 126, 127, 128, 254, 255, 256])
def test_every_edge_of_utf8_under_every_split(before):
    for edge in EDGES:
        content = b"a" * before + edge + b"b" * 130
        for cut in range(before, before + len(edge) + 1):
            check(content, [cut])
        check(b"a" * before + edge)


def test_every_split_and_every_read():
    content = b'x\0\r\n\r"\\\x1f' + "é€😀".encode()
    for cut, size in itertools.product(range(len(content) + 1), range(1, 40)):
        check(content, [cut, cut + 1], [size])


def test_large_content():
    dice = random.Random(1)
    line = b"x" * 76 + b"\r\n"
    for one in (line * 20_000, os.urandom(1_000_000), b"\0" * 300_000, "€\r\n".encode() * 99_999):
        check(one, [dice.randrange(len(one)) for _ in range(9)], [1 << 18, 77])


def test_what_is_outside_is_refused():
    for start, stop in ((-1, 1), (0, 3), (2, 1)):
        with pytest.raises(ValueError, match="outside"):
            Measure().add(b"12", start, stop)
        for make in (lambda spans: Tail.text(b"", spans, 2), lambda spans: Tail.base64(b"", spans)):
            with pytest.raises(ValueError, match="outside"):
                make([(b"12", start, stop)])
    with pytest.raises(TypeError, match="bytes or bytearray, not str"):
        Measure().add("12", 0, 1)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_text_that_is_made_already_is_given_as_it_is(kind):
    tail = Tail.of(kind(b"abc\r\n"))
    assert (bytes(tail), tail.size, tail.held) == (b"abc\r\n", 5, 5)
    assert in_reads(tail, [2]) == b"abc\r\n"


def test_a_size_that_is_not_the_contents_is_noticed():
    with pytest.raises(AssertionError):
        bytes(Tail.text(b"{", [(b"x", 0, 1)], 2))
