"""TLS of a client in memory: records are made and read apart from the socket."""

import socket
import ssl


class InMemory:
    """On a socket; it is the caller that decides what leaves in one packet."""

    def __init__(self, context: ssl.SSLContext, raw: socket.socket) -> None:
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="mx.example.com")

    def flush(self) -> None:
        """All that has been written leaves."""
        self.raw.sendall(self.outgoing.read())

    def handshake(self, behind: bytes = b"") -> None:
        """Its last flight and what is `behind` leave together."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()
        if behind:
            self.tls.write(behind)
        self.flush()

    def read(self) -> bytes:
        """The next record's content. Raises EOFError."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.receive()

    def receive(self) -> None:
        """One read of the socket. Raises EOFError."""
        data = self.raw.recv(65536)
        if not data:
            raise EOFError
        self.incoming.write(data)
