"""PROXY headers, versions 1 and 2 (HAProxy's proxy-protocol.txt), without I/O."""

from typing import Literal, final

class ProxyError(ValueError):
    """No PROXY header, or one that must not be trusted; the text is for the operator."""

class NoHeaderError(ProxyError):
    """What came is no PROXY header at all."""

@final
class Header:
    """A whole PROXY header; made by `parse` only.

    Texts of TLVs are "" where the header has none; octets that are not UTF-8 are read as Latin-1.
    What follows the fixed part of a LOCAL header is skipped, its TLVs included.
    """

    @property
    def version(self) -> int:
        """1 or 2."""

    @property
    def command(self) -> Literal["LOCAL", "PROXY"]:
        """LOCAL: the proxy speaks for itself, a health check."""

    @property
    def family(self) -> Literal["TCP4", "TCP6", "UNIX", "UNKNOWN", "UNSPEC"]:
        """Only TCP4 and TCP6 come with addresses; a LOCAL header is UNSPEC."""

    @property
    def size(self) -> int:
        """Octets of the header; what follows belongs to the session."""

    @property
    def source_ip(self) -> str:
        """The client, canonical text, IPv4-mapped as IPv4; "" where the header has no address."""

    @property
    def source_port(self) -> int:
        """The client's port; 0 where the header has no address."""

    @property
    def destination_ip(self) -> str:
        """The address that the client connected to, likewise."""

    @property
    def destination_port(self) -> int:
        """The port that the client connected to, likewise."""

    @property
    def unique_id(self) -> str:
        """PP2_TYPE_UNIQUE_ID."""

    @property
    def authority(self) -> str:
        """PP2_TYPE_AUTHORITY: the host name that the client gave by SNI."""

    @property
    def alpn(self) -> str:
        """PP2_TYPE_ALPN."""

    @property
    def secure(self) -> bool:
        """PP2_CLIENT_SSL: the client came to the proxy over TLS."""

    @property
    def tls(self) -> str:
        """PP2_SUBTYPE_SSL_VERSION, such as "TLSv1.3"."""

    @property
    def client_cn(self) -> str:
        """PP2_SUBTYPE_SSL_CN: the common name in the client's certificate."""

    @property
    def client_verified(self) -> bool | None:
        """Whether the client's certificate was verified; None where it showed none."""

def parse(data: bytes) -> Header | int:
    """The header that `data` starts with, or how many more octets are surely part of it.

    `data` is everything that came so far. An `int` is at least 1 and never reaches past the
    header's end, so that exactly these octets may be read from a socket. Raises ProxyError as soon
    as no header can come of it: no header, TLS, over 107 octets (version 1) or 16 + 4096
    (version 2), an unknown version, command or family, DGRAM, lengths that do not add up, a bad
    address or port, a wrong CRC32C.
    """
