"""Content on the wire: from the client's bytes to what the server holds, and back.

Takes whole byte strings, never a part of one; knows no sizes but those it counts.
"""

from dataclasses import dataclass

BARE_NEWLINE = (550, "5.6.0")
MODES = ("normalize", "reject", "keep")


@dataclass(frozen=True)
class Received:
    """What came in by DATA or BDAT."""

    content: bytes  # as it is published; meaningless where `refusal` is set
    size: int  # octets that count against the limit: unstuffed, not yet repaired
    used: int  # octets of the wire that are the content and its end
    refusal: tuple[int, str] | None = None  # reply code, enhanced code


def by_data(wire: bytes, mode: str = "normalize") -> Received | None:
    """What the server sees in the bytes after 354; None where the end has not come yet."""
    end = end_of_data(wire)
    if end is None:
        return None
    lines = wire[:end].split(b"\r\n")
    unstuffed = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    return _received(unstuffed, end + len(b".\r\n"), mode)


def by_bdat(chunks: list[bytes], mode: str = "normalize") -> Received:
    """What the server sees in the octets of all chunks of one message."""
    whole = b"".join(chunks)
    return _received(whole, len(whole), mode)


def end_of_data(wire: bytes) -> int | None:
    """Where the dot stands that ends the content: at the start, or after CRLF; CRLF follows."""
    if wire.startswith(b".\r\n"):
        return 0
    found = wire.find(b"\r\n.\r\n")
    return None if found < 0 else found + 2


def _received(unstuffed: bytes, used: int, mode: str) -> Received:
    size = len(unstuffed)
    if mode == "keep":
        return Received(unstuffed, size, used)
    if mode == "reject":
        bare = has_bare_newline(unstuffed)
        return Received(unstuffed, size, used, BARE_NEWLINE if bare else None)
    return Received(repaired(unstuffed), size, used)


def has_bare_newline(content: bytes) -> bool:
    """A CR without LF behind it, or an LF without CR before it."""
    rest = content.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def repaired(content: bytes) -> bytes:
    """Every lone LF as CRLF, every lone CR as a space."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(line.replace(b"\r", b" ").replace(b"\n", b"\r\n") for line in lines)


def fits_data(content: bytes) -> bool:
    """DATA can carry it unchanged: nothing, or lines that all end in CRLF (the last one too)."""
    return content == b"" or content.endswith(b"\r\n")


def data(content: bytes) -> bytes:
    """The bytes a client sends after 354 for `content`, the end of data included."""
    if not fits_data(content):
        raise ValueError("DATA carries only content that ends in CRLF")
    lines = content.split(b"\r\n")
    stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)
    return stuffed + b".\r\n"


def bdat(content: bytes, sizes: list[int] | None = None) -> list[bytes]:
    """BDAT commands with their octets; `sizes` of all chunks but the last, which takes the rest."""
    commands = []
    for size in sizes or []:
        chunk, content = content[:size], content[size:]
        commands.append(b"BDAT %d\r\n" % len(chunk) + chunk)
    commands.append(b"BDAT %d LAST\r\n" % len(content) + content)
    return commands
