"""escaping: what a client sent stays one printable line, of a bounded length for a reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.escaping import escaped, printable


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("plain, ünïcode too", "plain, ünïcode too"),
        ("two\r\nlines", "two??lines"),
        ("\x1b[31mred\x7f", "?[31mred?"),
        ("right \u202e to left", "right ? to left"),
        ("back\\slash", "back\\slash"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200),
    ],
)
def test_a_reader_sees_text_without_controls_and_not_too_much(sent: str, shown: str) -> None:
    assert printable(sent) == shown


@given(st.text())
def test_whatever_it_is_it_is_printable(sent: str) -> None:
    assert printable(sent).isprintable()
    assert len(printable(sent)) <= 200


@given(st.text())
def test_a_program_reads_back_what_was_sent(sent: str) -> None:
    line = escaped(sent)
    assert line.isprintable()
    back = line.encode("ascii", "backslashreplace").decode("unicode_escape")
    assert back == sent


def test_characters_that_the_caller_keeps_stay() -> None:
    assert escaped("a\\b\nc\td", keep="\\\n") == "a\\b\nc\\td"
