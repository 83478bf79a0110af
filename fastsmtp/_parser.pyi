from typing import Literal

class CommandError(ValueError):
    """A command's argument is wrong; `problem` says how."""

    problem: Literal["syntax", "mailbox", "utf8", "parameter"]
    def __init__(self, problem: Literal["syntax", "mailbox", "utf8", "parameter"]) -> None: ...

class Mail:
    """The argument of MAIL."""

    @property
    def sender(self) -> str:
        """The mailbox without "<>" and source route; "" for the null path."""
    @property
    def size(self) -> int:
        """Octets that SIZE= gave; 0 without it (RFC 1870)."""
    @property
    def eight_bit(self) -> bool:
        """BODY=8BITMIME was given (RFC 6152)."""
    @property
    def smtputf8(self) -> bool:
        """SMTPUTF8 was given (RFC 6531)."""
    @property
    def ret(self) -> str | None:
        """RET: "FULL" or "HDRS" (RFC 3461 §4.3)."""
    @property
    def envid(self) -> str | None:
        """ENVID, xtext decoded (RFC 3461 §4.4)."""

class Rcpt:
    """The argument of RCPT."""

    @property
    def mailbox(self) -> str:
        """The mailbox without "<>" and source route."""
    @property
    def notify(self) -> str | None:
        """NOTIFY in upper case (RFC 3461 §4.1)."""
    @property
    def orcpt(self) -> str | None:
        """ORCPT as "type;address", its address decoded (RFC 3461 §4.2; "utf-8": RFC 6533 §3)."""

def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Split a line without its line end into the verb in upper case and the argument.

    Spaces around the argument are dropped (RFC 5321 §4.1.1).
    """

def parse_mail(argument: bytes) -> Mail:
    """Parse what follows MAIL: `FROM:` path and parameters (RFC 5321 §4.1.1.2).

    Raises CommandError.
    """

def parse_rcpt(argument: bytes, smtputf8: bool) -> Rcpt:
    """Parse what follows RCPT: `TO:` path and parameters (RFC 5321 §4.1.1.3).

    `smtputf8`: MAIL carried SMTPUTF8. Raises CommandError.
    """

def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """Parse what follows BDAT: octets, and whether LAST was given (RFC 3030 §2).

    Raises CommandError.
    """

def parse_mailbox(text: bytes) -> str:
    """Parse a mailbox alone, with or without "<>", UTF-8 allowed; "" where it is empty.

    Raises CommandError.
    """
