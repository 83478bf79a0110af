"""_content: whatever the split, content is what the slow model says, and headers are its fields."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp._content import KEEP, NORMALIZE, REJECT, Content, HeaderScan, unfold
from tests.oracle import content as oracle
from tests.oracle import message, strategies

MODES = {"keep": KEEP, "normalize": NORMALIZE, "reject": REJECT}
LARGE = 1 << 40


def by_data(parts, mode, limit=LARGE):
    """(Content, octets used) of wire bytes that come in `parts`; None where the end is missing."""
    content = Content(MODES[mode], limit)
    used = 0
    for part in parts:
        end = content.feed_data(part, 0)
        if end >= 0:
            return content, used + end
        used += len(part)
    return None


def by_bdat(parts, mode):
    content = Content(MODES[mode], LARGE)
    for part in parts:
        content.feed_chunk(b"<" + part + b">", 1, len(part) + 1)
    content.finish()
    return content


def text(content):
    return b"".join(content.pieces)


def bytewise(data):
    return [bytes([octet]) for octet in data]


def check_data(wire, parts, mode):
    expected = oracle.by_data(wire, mode)
    found = by_data(parts, mode)
    if expected is None:
        assert found is None
        return
    content, used = found
    assert used == expected.used
    assert content.size == expected.size
    assert (mode == "reject" and content.has_bare) == (expected.refusal is not None)
    assert text(content) == expected.content
    assert content.held == len(expected.content)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "wire",
    [
        b".\r\n",
        b"\r\n.\r\n",
        b"..\r\n.\r\n",
        b"a\r\n.\r\nb",
        b"a\n.\r\n.\r\n",
        b"a\r.\r\n.\r\n",
        b"\n.\n.\r\n",
        b".\n\r\n.\r\n",
        b".\r.\r\r\n.\r\n",
        b"a\r\n.\n.\r.\r\n.\r\n",
        b"\r\r\n\n\r\n.\r\n",
        b"\0\r\0\n\r\n.\r\n",
    ],
)
def test_only_the_true_end_ends_and_every_split_is_the_same(wire, mode):
    check_data(wire, [wire], mode)
    check_data(wire, bytewise(wire), mode)
    for cut in range(len(wire) + 1):
        check_data(wire, [wire[:cut], wire[cut:]], mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_short_wire_agrees_with_the_model(mode):
    """All wires of 6 of the octets that matter."""
    for octets in itertools.product(b".\r\nx", repeat=6):
        wire = bytes(octets)
        for tail in (b"", b"\r\n.\r\n"):
            check_data(wire + tail, bytewise(wire + tail), mode)
            check_data(wire + tail, [wire + tail], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("before", [*range(250, 260), *range(508, 516)])
def test_what_matters_is_seen_wherever_it_stands_in_much_text(before, mode):
    """Octets that change nothing are passed over by 256."""
    text = (b"x" * 74 + b"\r\n") * 8
    for octets in itertools.product(b".\r\nx", repeat=4):
        wire = text[:before] + bytes(octets) + text + b".\r\n"
        check_data(wire, [wire], mode)


@given(
    st.data(),
    st.lists(strategies.newline_soup(4), max_size=4),
    st.lists(st.sampled_from([b"y" * 255, b"y" * 300, (b"y" * 60 + b"\r\n") * 9]), max_size=5),
    st.sampled_from(list(MODES)),
)
def test_long_text_between_agrees_with_the_model(data, soup, texts, mode):
    wire = b"".join(data.draw(st.permutations(soup + texts))) + b"\r\n.\r\n"
    cut = data.draw(st.integers(0, len(wire)))
    check_data(wire, [wire[:cut], wire[cut:]], mode)


@given(st.data(), strategies.wire(), st.sampled_from(list(MODES)))
def test_data_agrees_with_the_model_at_any_split(data, wire, mode):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    parts = [wire[a:b] for a, b in itertools.pairwise([0, *cuts, len(wire)])]
    check_data(wire, parts, mode)


@given(st.lists(strategies.newline_soup(10), max_size=5), st.sampled_from(list(MODES)))
def test_chunks_agree_with_the_model(chunks, mode):
    expected = oracle.by_bdat(chunks, mode)
    content = by_bdat(chunks, mode)
    assert content.size == expected.size
    assert (mode == "reject" and content.has_bare) == (expected.refusal is not None)
    assert text(content) == expected.content


def test_what_is_too_large_is_not_kept_but_its_end_is_found():
    content = Content(NORMALIZE, 10)
    for _ in range(100):
        assert content.feed_data(b"0123456789\r\n", 0) == -1
        assert text(content) == b"" or not content.too_large
    assert content.feed_data(b".\r\nQUIT\r\n", 0) == 3
    assert content.too_large
    assert text(content) == b""


def test_the_limit_is_the_last_size_that_fits():
    at_limit, _ = by_data([b"12345678\r\n.\r\n"], "keep", limit=10)
    over, _ = by_data([b"123456789\r\n.\r\n"], "keep", limit=10)
    assert (at_limit.too_large, over.too_large) == (False, True)
    stuffed, _ = by_data([b"..345678\r\n.\r\n"], "keep", limit=9)
    assert not stuffed.too_large


def test_octets_that_come_one_by_one_become_few_pieces():
    content = Content(NORMALIZE, LARGE)
    for _ in range(200_000):
        content.feed_data(b"x", 0)
    content.feed_data(b"\r\n.\r\n", 0)
    assert len(content.pieces) < 10
    assert text(content) == b"x" * 200_000 + b"\r\n"


def scan(content, take=lambda name: True, step=LARGE):
    seen = []

    def lift(name, start, stop, octets):
        seen.append((name, unfold(content, start, stop), octets))
        return take(name)

    walk = HeaderScan(content, lift)
    while not walk.run(step):
        pass
    return walk, seen


def without(content, cuts):
    for start, stop in reversed(cuts):
        content = content[:start] + content[stop:]
    return content


@pytest.mark.parametrize(
    ("content", "names", "rest"),
    [
        (b"", [], b""),
        (b"\r\nX-MQ-A: 1\r\n", [], b"\r\nX-MQ-A: 1\r\n"),
        (b"X-MQ-A: 1\r\n", ["a"], b""),
        (b"X-MQ-A: 1", ["a"], b""),
        (b"x-mq-a\t : 1\r\n 2\r\n\t3\r\nB: 4\r\n\r\n", ["a"], b"B: 4\r\n\r\n"),
        (b" X-MQ-A: 1\r\n", [], b" X-MQ-A: 1\r\n"),
        (b"From x\r\nX-MQ-A: 1\r\n", [], b"From x\r\nX-MQ-A: 1\r\n"),
        (b"A: \nX-MQ-A: 1\r\n", [], b"A: \nX-MQ-A: 1\r\n"),
        (b"X-MQ-: 1\r\nX-MQ: 2\r\nX-MQ-B:\r\n", ["", "b"], b"X-MQ: 2\r\n"),
        (b"X-MQ-" + b"n" * 993 + b": 1\r\n", ["n" * 993], b""),
        (b"X-MQ-" + b"n" * 994 + b": 1\r\n", [], b"X-MQ-" + b"n" * 994 + b": 1\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, LARGE])
def test_fields_are_found_in_the_header_block_only(content, names, rest, step):
    walk, seen = scan(content, step=step)
    assert [name for name, _, _ in seen] == names
    assert without(content, walk.cuts) == rest


@given(strategies.messages(), st.sampled_from([1, 50, LARGE]))
def test_the_walk_agrees_with_the_model(content, step):
    fields, rest = message.split_header(content)
    ours = [
        (name.lower().decode()[5:], value, len(raw))
        for name, value, raw in fields
        if name.lower().startswith(b"x-mq-")
    ]
    walk, seen = scan(content, take=lambda name: len(name) % 2 == 0, step=step)
    assert seen == [(name, message.unfolded(value), size) for name, value, size in ours]
    kept = [
        raw
        for name, _, raw in fields
        if not (name.lower().startswith(b"x-mq-") and len(name) % 2 == 1)
    ]
    assert without(content, walk.cuts) == b"".join(kept) + rest
    assert walk.received == sum(name.lower() == b"received" for name, _, _ in fields)


def test_a_walk_without_lift_cuts_nothing():
    walk = HeaderScan(b"X-MQ-A: 1\r\nReceived: x\r\n\r\n", None)
    assert walk.run(LARGE)
    assert (walk.cuts, walk.received) == ([], 1)
