"""MAIL and RCPT lines, by spec/smtp.md, RFC 5321 §4.1.2, RFC 3461, RFC 4954 §5 and RFC 6531.

Takes a line without its line end. Gives what it says, or every reply that would be right: a line
with two mistakes may be answered for either of them.
"""

import re
from dataclasses import dataclass, field
from typing import Any

BAD_LINE = (500, "5.5.2")
BAD_ARGUMENT = (501, "5.5.4")
UNKNOWN_PARAMETER = (555, "5.5.4")
BAD_SENDER = (553, "5.1.7")
BAD_RECIPIENT = (553, "5.1.3")
NEEDS_SMTPUTF8 = (553, "5.6.7")

ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
LOCAL = re.compile(
    rb'(?:[.%b\x80-\xff]+|"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*")' % ATEXT,
)
LABEL = re.compile(rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?")
SNUM = rb"(?:[01]?[0-9]{1,2}|2[0-4][0-9]|25[0-5])"
# RFC 5321 §4.1.3: an IPv4 address, or anything with a colon in it.
LITERAL = re.compile(rb"\[(?:%b(?:\.%b){3}|[!-Z^-~]*:[!-Z^-~]*)\]" % (SNUM, SNUM))
# Controls, line separators, characters that nobody sees: not in an address.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass
class Line:
    """What a good line says, or `errors`."""

    mailbox: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    errors: set[tuple[int, str]] = field(default_factory=set)


def mail(line: bytes) -> Line:
    """A line whose verb is MAIL. Values: size int, smtputf8 True, body, ret, envid, auth."""
    return _line(line, b"FROM:", BAD_SENDER, MAIL_PARAMETERS, smtputf8=None)


def rcpt(line: bytes, smtputf8: bool = False) -> Line:
    """A line whose verb is RCPT, after a MAIL with or without SMTPUTF8. Values: notify, orcpt."""
    return _line(line, b"TO:", BAD_RECIPIENT, RCPT_PARAMETERS, smtputf8)


def _line(
    line: bytes,
    word: bytes,
    bad_mailbox: tuple[int, str],
    known: dict[str, Any],
    smtputf8: bool | None,
) -> Line:
    if b"\r" in line or b"\0" in line:
        return Line(errors={BAD_LINE})
    argument = line[4:].strip(b" ")
    if argument[: len(word)].upper() != word:
        return Line(errors={BAD_ARGUMENT})
    argument = argument[len(word) :].lstrip(b" ")
    if argument == b"":
        return Line(errors={BAD_ARGUMENT})
    result = Line()
    found = split_path(argument, word == b"TO:")
    if found is None:
        result.errors.add(bad_mailbox)
        if argument.startswith(b"<") and _ends_badly(argument, word == b"TO:"):
            result.errors.add(BAD_ARGUMENT)
        if not argument.isascii():
            result.errors.add(NEEDS_SMTPUTF8)
        return result
    mailbox, rest = found
    if mailbox == b"" and word == b"TO:":
        result.errors.add(bad_mailbox)
    words = [item for item in rest.split(b" ") if item]
    if smtputf8 is None:
        smtputf8 = any(item.upper() == b"SMTPUTF8" for item in words)
    # A source route is dropped unread: only the mailbox needs to be text.
    if not mailbox.isascii() and not (smtputf8 and _is_utf8(mailbox)):
        result.errors.add(NEEDS_SMTPUTF8)
    elif HIDDEN.search(mailbox.decode()):
        result.errors.add(bad_mailbox)
    _parameters(words, known, smtputf8, result)
    if not result.errors:
        result.mailbox = mailbox.decode()
    return result


def split_path(argument: bytes, is_rcpt: bool) -> tuple[bytes, bytes] | None:
    """(mailbox without "<>" and source route, the rest from its space on), or None."""
    if not argument.startswith(b"<"):
        path, space, rest = argument.partition(b" ")
        mailbox = without_route(path, is_rcpt)
        return None if mailbox is None else (mailbox, space + rest)
    for end in (match.end() for match in re.finditer(rb">(?= |\Z)", argument)):
        inside = argument[1 : end - 1]
        mailbox = b"" if inside == b"" else without_route(inside, is_rcpt)
        if mailbox is not None:
            return mailbox, argument[end:]
    return None


def _ends_badly(argument: bytes, is_rcpt: bool) -> bool:
    """Nothing closes the "<", or something is stuck to a good path: bad syntax just as well."""
    ends = [position for position, octet in enumerate(argument) if octet == ord(">")]
    paths = [argument[1:end] for end in ends]
    unclosed = not ends or b'"' in argument or b"[" in argument
    return unclosed or any(p == b"" or without_route(p, is_rcpt) is not None for p in paths)


def without_route(path: bytes, is_rcpt: bool) -> bytes | None:
    """The mailbox of a path, its source route dropped; None where it is not valid."""
    if is_mailbox(path) or (is_rcpt and path.lower() == b"postmaster"):
        return path
    route, colon, mailbox = path.partition(b":")
    hops = route.split(b",")
    if (
        colon
        and all(hop[:1] == b"@" and is_domain(hop[1:]) for hop in hops)
        and is_mailbox(mailbox)
    ):
        return mailbox
    return None


def is_mailbox(octets: bytes) -> bool:
    """Local part "@" domain; bytes from 128 on pass, they are the caller's to judge."""
    for at in (position for position, octet in enumerate(octets) if octet == ord("@")):
        if LOCAL.fullmatch(octets[:at]) and is_domain(octets[at + 1 :]):
            return True
    return False


def is_domain(octets: bytes) -> bool:
    if LITERAL.fullmatch(octets):
        return True
    labels = octets.split(b".")
    return len(octets) <= 255 and all(len(x) <= 63 and LABEL.fullmatch(x) for x in labels)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parameters(words: list[bytes], known: dict[str, Any], smtputf8: bool, result: Line) -> None:
    for word in words:
        name, equals, value = word.partition(b"=")
        keyword = name.decode("latin-1").upper()
        allowed = rb"[!-<>-~\x80-\xff]+" if smtputf8 and keyword == "ORCPT" else rb"[!-<>-~]+"
        good_name = re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9-]*", name)
        if good_name and keyword not in known:
            result.errors.add(UNKNOWN_PARAMETER)
        if not good_name or (equals and not re.fullmatch(allowed, value)):
            result.errors.add(BAD_ARGUMENT)
        elif keyword not in known:
            pass
        elif keyword.lower() in result.params:
            result.errors.add(BAD_ARGUMENT)
        else:
            meaning = known[keyword](value if equals else None)
            if meaning is None:
                result.errors.add(BAD_ARGUMENT)
            result.params[keyword.lower()] = meaning


def _size(value: bytes | None) -> int | None:
    return int(value) if value and re.fullmatch(rb"[0-9]{1,20}", value) else None


def _one_of(*choices: str) -> Any:
    def chosen(value: bytes | None) -> str | None:
        text = (value or b"").decode("latin-1").upper()
        return text if text in choices else None

    return chosen


def _no_value(value: bytes | None) -> bool | None:
    return True if value is None else None


def xtext(value: bytes) -> str | None:
    """The text behind RFC 3461's xtext; None where it is not xtext, or has a control in it."""
    if not re.fullmatch(rb"(?:[!-*,-<>-~\x80-\xff]|\+[0-9A-Fa-f]{2})*", value):
        return None
    octets = re.sub(rb"\+(..)", lambda match: bytes([int(match[1], 16)]), value)
    if any(octet < 32 or octet == 127 for octet in octets):
        return None
    return octets.decode("utf-8" if _is_utf8(octets) else "latin-1")


def unitext(value: str) -> str | None:
    """The text behind RFC 6533's \\x{HEX}; None where one is not whole, or no character."""
    if re.search(r"\\x\{(?![0-9A-Fa-f]{2,6}\})", value):
        return None
    codes = [int(digits, 16) for digits in re.findall(r"\\x\{([0-9A-Fa-f]+)\}", value)]
    if any(code > 0x10FFFF or 0xD800 <= code <= 0xDFFF for code in codes):
        return None
    return re.sub(r"\\x\{([0-9A-Fa-f]+)\}", lambda match: chr(int(match[1], 16)), value)


def _envid(value: bytes | None) -> str | None:
    return xtext(value) if value and len(value) <= 100 else None


def _auth(value: bytes | None) -> str | None:
    if value is None:
        return None
    return "" if value == b"<>" else xtext(value)


def _notify(value: bytes | None) -> str | None:
    text = (value or b"").decode("latin-1").upper()
    words = text.split(",")
    if text == "NEVER":
        return text
    good = set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words)
    return text if good else None


def _orcpt(value: bytes | None) -> str | None:
    if value is None or len(value) > 500 or not _is_utf8(value):
        return None
    kind, semicolon, address = value.partition(b";")
    if not semicolon or not re.fullmatch(rb"[%b]+" % ATEXT, kind):
        return None
    decoded = unitext(address.decode()) if kind.lower() == b"utf-8" else xtext(address)
    if decoded is not None and HIDDEN.search(decoded):
        return None
    return None if decoded is None else f"{kind.decode()};{decoded}"


MAIL_PARAMETERS = {
    "SIZE": _size,
    "BODY": _one_of("7BIT", "8BITMIME"),
    "SMTPUTF8": _no_value,
    "RET": _one_of("FULL", "HDRS"),
    "ENVID": _envid,
    "AUTH": _auth,
}
RCPT_PARAMETERS = {"NOTIFY": _notify, "ORCPT": _orcpt}
