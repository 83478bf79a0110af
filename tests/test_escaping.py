"""escaping: what a client sent stays one printable line, of a bounded length for a reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.escaping import escaped, field_message, field_value, json_line, printable


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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a@b.example", "a@b.example"),
        ("", ""),
        ("x user=admin", r"x\x20user\x3dadmin"),
        ('a"b', r"a\x22b"),
        (r"a\b", r"a\\b"),
        ("a\r\nb", r"a\r\nb"),
        ("a\u2028b\u202ec\u200ed", r"a\u2028b\u202ec\u200ed"),
        ("a\u00a0user\u3000b", r"a\xa0user\u3000b"),
    ],
)
def test_a_value_holds_nothing_that_ends_it(value: str, shown: str) -> None:
    assert field_value(value) == shown


@given(st.text())
def test_values_are_one_word_and_read_back_as_they_were(value: str) -> None:
    word = field_value(value)
    assert word.isprintable()
    assert not set(' ="') & set(word)
    assert word.encode("ascii", "backslashreplace").decode("unicode_escape") == value


@given(st.text())
def test_a_message_is_printable_and_holds_no_field(message: str) -> None:
    assert field_message(message).isprintable()
    assert "=" not in field_message(message)


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_one_printable_line_and_the_same_when_read(event: dict[str, str]) -> None:
    line = json_line(event)
    assert line.isprintable()
    assert json.loads(line) == event
