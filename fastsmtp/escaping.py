"""What a client sent, made safe for a line of ours: nothing in it ends the line, or its field."""

import json
import re
from collections.abc import Mapping

_SEPARATORS = re.compile(r'[ ="]')
"""What ends a value in a line of `name=value`, for one reader or another."""


def printable(text: str) -> str:
    """For a reader: controls become "?"; 200 characters at most."""
    if len(text) <= 200 and text.isprintable():
        return text
    return "".join([c if c.isprintable() else "?" for c in text[:200]])


def escaped(text: str, keep: str = "") -> str:
    """For a reader or a program: backslash escapes of backslashes and what is not printable.

    The characters of `keep` stay as they are.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        c if c in keep or (c.isprintable() and c != "\\") else c.encode("unicode_escape").decode()
        for c in text
    )


def field_value(value: str) -> str:
    r"""The value of `name=value`: `escaped`, and spaces, "=" and quotes as \x20, \x3d, \x22.

    So no reader, not even one that looks for " name=" alone, sees a field that is none of ours.
    """
    return _SEPARATORS.sub(_hexadecimal, escaped(value))


def field_message(message: str) -> str:
    """The text before the fields: it has no "=", and its backslashes are its own."""
    return escaped(message, keep="\\").replace("=", "\\x3d")


def _hexadecimal(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def json_line(event: Mapping[str, object]) -> str:
    """`event` as JSON in one line of printable characters; whoever reads it gets what was given."""
    line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
