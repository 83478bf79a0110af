"""Every reply that the server gives, as a value (RFC 5321 §4.2, enhanced codes RFC 2034, 3463).

Takes nothing from a client: text that a client sent goes through `escaping` first.
A reply knows its bytes, so that sending one costs no formatting.
"""

from fastsmtp.escaping import printable

MAX_LINE = 512
"""Octets of one reply line, its CRLF included (RFC 5321 §4.5.3.1.5)."""

MAX_QUEUED = 2000
"""Octets of the reply that names identifiers; Exim reads 4,096 at most."""

QUEUED = "250 2.0.0 queued"
"""The kind of every reply that names identifiers."""

LINE_OVERHEAD = len("250-2.0.0 \r\n")
"""Octets of a line besides its text."""

QUEUED_LINE = "Ok, your message has been queued using the following identifiers:"
QUEUED_TO_ONE = f"250-2.0.0 {QUEUED_LINE}\r\n250 2.0.0 "
"""What stands before the one identifier in the reply to a message that has one recipient."""

QUEUED_ROOM = (
    MAX_QUEUED - LINE_OVERHEAD - len(QUEUED_LINE) - LINE_OVERHEAD - len("and 1000000 more")
)
"""Octets that are left for lines with identifiers."""


SHORT = (MAX_LINE - LINE_OVERHEAD) // 4
"""Characters of a text whose line is never too long."""


class Reply:
    """One reply: a code, an enhanced status code (or "") and lines of text; never changes."""

    __slots__ = ("code", "enhanced", "kind", "lines", "wire")

    def __init__(
        self, code: int, enhanced: str, *lines: str, kind: str = "", wire: bytes = b""
    ) -> None:
        """Longer lines are cut at `MAX_LINE` octets; `wire` is the bytes where they are known."""
        self.kind = kind or f"{code} {enhanced} other"  # constants are given their own names
        self.code = code
        self.enhanced = enhanced
        self.lines = lines
        self.wire = wire or _wire(code, enhanced, lines)

    def __repr__(self) -> str:
        return f"<Reply {self.code} {self.enhanced} {self.lines[0]}>"


def _wire(code: int, enhanced: str, lines: tuple[str, ...]) -> bytes:
    status = f"{enhanced} " if enhanced else ""
    text = f"{code} {status}{lines[-1]}\r\n"
    if len(lines) > 1:
        more = f"{code}-{status}"
        text = "".join([f"{more}{line}\r\n" for line in lines[:-1]]) + text
    wire = text.encode()
    if len(wire) > MAX_LINE and max(map(len, lines)) > SHORT:
        wire = b"".join(map(_cut, text.split("\r\n")[:-1]))
    return wire


def _cut(line: str) -> bytes:
    encoded = line.encode()
    if len(encoded) > MAX_LINE - 2:
        encoded = encoded[: MAX_LINE - 2].decode(errors="ignore").encode()
    return encoded + b"\r\n"


def queued(stored: list[tuple[str, str]]) -> Reply:
    """The 250 for a message whose every recipient is stored: one identifier line a recipient.

    `stored` holds (message-id, recipient mailbox). Lines are added while the whole reply stays
    under `MAX_QUEUED` octets; then one line counts the rest.
    """
    lines = [QUEUED_LINE]
    room = QUEUED_ROOM
    for message_id, mailbox in stored:
        line = f"{message_id} for {printable(mailbox)}"
        room -= LINE_OVERHEAD + len(line if line.isascii() else line.encode())
        if room < 0:
            lines.append(f"and {len(stored) - len(lines) + 1} more")
            break
        lines.append(line)
    wire = b""
    if len(stored) == 1 and len(line) <= SHORT:
        wire = f"{QUEUED_TO_ONE}{line}\r\n".encode()
    return Reply(250, "2.0.0", *lines, kind=QUEUED, wire=wire)


# Success
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
OK = Reply(250, "2.0.0", "Ok")
BYE = Reply(221, "2.0.0", "Bye")
VRFY = Reply(252, "2.0.0", "Cannot verify, but will accept the message")
HELP = Reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT: see RFC 5321")
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

# The sink's outcomes
NOT_STORED = Reply(451, "4.3.0", "Message could not be stored, try again later")
NACKED = Reply(451, "4.3.0", "Message was not taken by its queue, try again later")
UNROUTABLE = Reply(451, "4.3.5", "Message has no queue to go to, try again later")
NO_SPACE = Reply(452, "4.3.1", "Insufficient system storage, try again later")
NO_MEMORY = Reply(452, "4.3.1", "Too much mail at once, try again later")
TOO_LARGE = Reply(552, "5.3.4", "Message too large")
UNAVAILABLE = Reply(421, "4.3.2", "Service not available, try again later")
INTERNAL = Reply(451, "4.3.0", "Local error, try again later")

# The content's refusals
BARE_NEWLINE = Reply(550, "5.6.0", "Bare CR or LF in the message (RFC 5321 section 2.3.8)")
NOT_UTF8 = Reply(554, "5.6.3", "Message is not UTF-8 and cannot be converted")
TOO_MANY_HEADERS = Reply(552, "5.3.4", "Too many X-MQ headers")
LOOP = Reply(554, "5.4.6", "Too many Received fields, mail loop")

# The session's refusals
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
NO_RECIPIENTS = Reply(503, "5.5.1", "No valid recipients")
NESTED_MAIL = Reply(503, "5.5.1", "Sender already given")
HELLO_FIRST = Reply(503, "5.5.1", "Send HELO or EHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
WRONG_ORDER = Reply(503, "5.5.1", "Bad sequence of commands")
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command unrecognized")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
BAD_LINE = Reply(500, "5.5.2", "Bare CR, bare LF or NUL in a command")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BAD_ARGUMENT = Reply(501, "5.5.4", "Syntax error in arguments")
BAD_SENDER = Reply(553, "5.1.7", "Bad sender address")
BAD_RECIPIENT = Reply(553, "5.1.3", "Bad recipient address")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address needs SMTPUTF8 and valid UTF-8")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized")
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
TLS_REQUIRED = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for authentication: use STARTTLS")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Authentication not available, try again later")
BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode the response")
BAD_CREDENTIALS = Reply(535, "5.7.8", "Authentication credentials invalid")
BAD_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not supported")
ACCESS_DENIED = Reply(554, "5.7.1", "Your address may not send mail here")
UNKNOWN_CLIENT = Reply(550, "5.7.1", "Mail from an unknown address is not accepted")
XCLIENT_DENIED = Reply(550, "5.7.0", "Your address may not use XCLIENT")
NO_CERTIFICATE = Reply(454, "4.7.0", "TLS not available")
TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS not available, try again later")
PROTOCOL_ERROR = Reply(554, "5.5.0", "Protocol error, closing")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing")
TOO_SLOW = Reply(421, "4.4.2", "Timeout, closing")
NO_MAIL = Reply(421, "4.4.2", "No mail in too long a session, closing")
TOO_MANY_CONNECTIONS = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_FROM_ADDRESS = Reply(421, "4.3.2", "Too many connections from you, try again later")
STOPPING = Reply(421, "4.3.2", "Service is stopping, try again")


def _name() -> list[str]:
    """Give each constant its kind: "451 4.3.0 not_stored"; all of them."""
    kinds = [QUEUED]
    for name, reply in globals().items():
        if isinstance(reply, Reply):
            reply.kind = f"{reply.code} {reply.enhanced} {name.lower()}"
            kinds.append(reply.kind)
    return kinds


KINDS = _name()
"""Every kind of reply: code, enhanced code (or nothing) and reason, a space between."""
