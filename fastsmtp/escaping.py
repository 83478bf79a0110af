"""What a client sent, made safe for a line of ours: nothing in it ends the line."""


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
