"""Facts about one connection: who is at its ends and what protects it."""

from typing import Any


class Proxy:
    """What a PROXY header told of the connection besides its ends; TLV texts, "" where absent."""

    __slots__ = (
        "alpn",
        "client_cn",
        "client_verified",
        "remote_ip",
        "sni",
        "tls",
        "unique_id",
        "version",
    )

    def __init__(self, remote_ip: str, version: int) -> None:
        self.remote_ip = remote_ip  # the proxy's own address
        self.version = version  # of the header: 1 or 2
        self.unique_id = ""
        self.sni = ""
        self.alpn = ""
        self.tls = ""
        self.client_cn = ""
        self.client_verified: bool | None = None


class Peer:
    """One connection's ends; addresses are canonical text, see `addresses`."""

    __slots__ = (
        "cipher",
        "client",
        "counted_address",
        "described",
        "helo",
        "is_counted",
        "is_hidden",
        "is_introduced",
        "known",
        "local_ip",
        "local_port",
        "proxy",
        "remote_ip",
        "remote_port",
        "secure",
        "session",
        "tls",
        "trusted",
        "user",
        "xclient_ip",
    )

    def __init__(self, local_ip: str, local_port: int, remote_ip: str, remote_port: int) -> None:
        self.local_ip = local_ip
        self.local_port = local_port
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.session = ""  # what log lines call this connection
        self.proxy: Proxy | None = None
        self.is_hidden = False  # behind a proxy that does not tell who it is: our ends are its own
        self.xclient_ip = ""  # whose word about the client is taken; "": XCLIENT is refused
        self.is_introduced = False  # XCLIENT has told who it is
        self.known = True  # False: it is hidden, or not introduced, so no mail is taken
        self.trusted = False  # in smtp-trusted
        self.secure = False
        self.tls = ""  # protocol version where TLS ends here
        self.cipher = ""
        self.helo = ""  # the argument of HELO or EHLO; owned by the session
        self.user = ""  # after AUTH; owned by the session
        # Owned by admission
        self.is_counted = False  # among the open connections
        self.counted_address = ""  # whose limit it counts towards; "" where there is none
        self.client: Any = None  # who takes turns, see `memory_budget`, which owns it
        # Its JSON text, and what may change of it; owned by payload
        self.described: tuple[object, tuple[bytes, bytes]] | None = None

    @property
    def is_unnamed(self) -> bool:
        """Whoever has connected speaks for others, and has not told for whom."""
        return self.is_hidden or (bool(self.xclient_ip) and not self.is_introduced)
