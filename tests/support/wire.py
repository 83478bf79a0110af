"""A raw SMTP client: sends exactly the bytes that a test gives, reads whole replies."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

TIMEOUT = 30.0


class Reply(NamedTuple):
    """One reply as it came."""

    code: int
    lines: tuple[str, ...]  # what follows "250-" and "250 "
    raw: bytes

    @property
    def ids(self) -> list[str]:
        """The identifiers in the 250 of an accepted message."""
        return re.findall(r"^250[- ]2\.0\.0 (\w+) for ", self.raw.decode(), re.MULTILINE)


def stuffed(content: bytes) -> bytes:
    """What DATA sends for `content`, which ends with CRLF or is empty (RFC 5321 §4.5.2)."""
    assert not content or content.endswith(b"\r\n"), "only BDAT carries an unfinished last line"
    dotted = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if dotted.startswith(b".") else b"") + dotted + b".\r\n"


def all_read(port: int) -> None:
    """Return when a server of one worker has read whatever it was sent before.

    A client that comes now is answered, several times: one read may take more than a turn.
    """
    with Wire(port) as later:
        for _ in range(5):
            assert later.command("NOOP").code == 250


@contextlib.contextmanager
def flooding(client: "Wire", data: bytes) -> Iterator[Callable[[int], bool]]:
    """Meanwhile `client` sends `data` again and again; it is of no use afterwards.

    Gives a function: whether the server at a port takes no more, while it answers others.
    """
    sent = 0

    def send() -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while True:
                client.send(data)
                sent += 1

    def is_stuck(port: int) -> bool:
        before = sent
        all_read(port)
        return sent == before

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield is_stuck
    finally:
        client.socket.shutdown(socket.SHUT_RDWR)
        sender.join(10)
        assert not sender.is_alive()


class Wire:
    """One connection; the greeting is read at once and kept."""

    def __init__(
        self,
        port: int,
        timeout: float = TIMEOUT,
        source: str = "",
        tls: ssl.SSLContext | None = None,
        name: str = "mx.example.com",
    ) -> None:
        """`source`: the address, of 127.0.0.0/8, that it comes from.

        `tls`: shake hands first, with the server that has this `name`.
        """
        self.socket = socket.create_connection(("127.0.0.1", port), timeout, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        self.unread = b""
        self.greeting = self.reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def starttls(
        self,
        context: ssl.SSLContext,
        name: str = "mx.example.com",
        session: ssl.SSLSession | None = None,
    ) -> None:
        """STARTTLS, which must be accepted, and the handshake; `session`: one to resume."""
        reply = self.command("STARTTLS")
        assert reply.code == 220, reply
        assert not self.unread
        self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session)

    def close(self) -> None:
        """Hang up without a QUIT."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """These bytes and nothing else."""
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line. Raises EOFError (the server hung up) or TimeoutError."""
        while b"\n" not in self.unread:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the server hung up after {self.unread!r}")
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        return line + b"\n"

    def reply(self) -> Reply:
        """The next reply, all its lines."""
        raw, lines = b"", []
        while True:
            line = self.line()
            assert re.fullmatch(rb"[2-5]\d\d[- ][^\r\n]*\r\n", line), f"not a reply line: {line!r}"
            raw += line
            lines.append(line[4:-2].decode())
            if line[3:4] == b" ":
                return Reply(int(line[:3]), tuple(lines), raw)

    def replies(self, count: int) -> list[Reply]:
        """The next `count` replies."""
        return [self.reply() for _ in range(count)]

    def hung_up(self) -> bool:
        """Wait for what comes next: the end of the connection (True) or a byte (False)."""
        if self.unread:
            return False
        try:
            self.unread = self.socket.recv(65536)
        except ConnectionResetError:
            return True
        return not self.unread

    def command(self, line: str | bytes) -> Reply:
        """A command line, CRLF added, and its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def ehlo(self) -> Reply:
        """EHLO client.example.net."""
        return self.command("EHLO client.example.net")

    def envelope(self, sender: str, recipients: Iterable[str]) -> None:
        """MAIL and RCPTs, each of which must be accepted."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients)):
            reply = self.command(line)
            assert reply.code == 250, (line, reply)

    def data(self, content: bytes) -> Reply:
        """DATA and `content`, dots stuffed; the reply after the end."""
        reply = self.command("DATA")
        if reply.code == 354:
            self.send(stuffed(content))
            reply = self.reply()
        return reply

    def bdat(self, chunk: bytes, last: bool = True) -> Reply:
        """One BDAT chunk and its reply."""
        self.send(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"") + chunk)
        return self.reply()

    def mail(
        self,
        content: bytes,
        sender: str = "sender@example.com",
        recipients: Iterable[str] = ("rcpt@example.org",),
    ) -> Reply:
        """A whole transaction by DATA; the last reply."""
        self.envelope(sender, recipients)
        return self.data(content)
