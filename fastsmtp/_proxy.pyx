"""PROXY headers, versions 1 and 2 (HAProxy's proxy-protocol.txt), without I/O.

Takes the bytes that came first on a connection; gives the header, or how many more bytes surely
belong to it, or raises ProxyError. It never asks for a byte that may lie behind the header, which
may be TLS already and cannot be pushed back.
"""

from ipaddress import IPv4Address, IPv6Address

from fastsmtp.addresses cimport canonical

cdef bytes V1_START = b"PROXY "
cdef bytes V1_UNKNOWN = b"PROXY UNKNOWN"
cdef bytes V2_START = b"\r\n\r\n\0\r\nQUIT\n"
cdef bytes TLS_HANDSHAKE = b"\x16"

cdef enum:
    V1_MIN = 15  # octets of "PROXY UNKNOWN" and its CRLF
    V1_MAX = 107  # octets, CRLF included
    V1_SPACES = 5  # PROXY TCP4 source destination port port
    V2_FIXED = 16  # octets before the address block
    V2_MAX = 4096  # octets of addresses and TLVs
    UNIQUE_ID_MAX = 128

    LOCAL = 0
    PROXY = 1
    DGRAM = 2  # low half of the family octet

    TLV_ALPN = 0x01
    TLV_AUTHORITY = 0x02
    TLV_CRC32C = 0x03
    TLV_UNIQUE_ID = 0x05
    TLV_SSL = 0x20
    TLV_SSL_VERSION = 0x21
    TLV_SSL_CN = 0x22

    SSL_FIXED = 5  # octets of flags and verify result before the SSL TLV's own TLVs
    CLIENT_SSL = 0x01  # the client came over TLS
    CLIENT_CERT = 0x02 | 0x04  # it showed a certificate, on this connection or in this session

# Family octet -> name, octets of the address block (proxy-protocol.txt §2.2)
cdef dict FAMILIES = {
    0x00: ("UNSPEC", 0), 0x11: ("TCP4", 12), 0x21: ("TCP6", 36), 0x31: ("UNIX", 216),
}


class ProxyError(ValueError):
    """No PROXY header, or one that must not be trusted; the text is for the operator."""


class NoHeaderError(ProxyError):
    """What came is no PROXY header at all."""


cdef class Header:
    def __cinit__(self, int version, str command, str family, Py_ssize_t size):
        self.version = version
        self.command = command
        self.family = family
        self.size = size
        self.source_ip = self.destination_ip = ""
        self.unique_id = self.authority = self.alpn = self.tls = self.client_cn = ""


def parse(bytes data not None):
    if data[:len(V1_START)] == V1_START[:len(data)]:
        return _parse_v1(data)
    if data[:len(V2_START)] == V2_START[:len(data)]:
        return _parse_v2(data)
    if data[:1] == TLS_HANDSHAKE:
        raise NoHeaderError(
            "TLS came before the PROXY header: the proxy must send the header first"
        )
    raise NoHeaderError(
        "no PROXY header came first: is send-proxy set at the proxy for this server?"
    )


cdef object _parse_v1(bytes data):
    cdef Py_ssize_t size = len(data)
    cdef Py_ssize_t end = data.find(b"\r\n", 0, V1_MAX)
    cdef bytes line = data[:end] if end >= 0 else data[:V1_MAX]
    cdef bint half_ended = end < 0 and line.endswith(b"\r")
    if b"\n" in line or line.count(b"\r") > half_ended:
        raise ProxyError("PROXY version 1 header with a bare CR or LF in it")
    if end >= 0:
        return _v1_header(line)
    cdef Py_ssize_t more = _v1_rest(line) if not half_ended else _v1_rest(line.rstrip(b"\r")) - 1
    if size + more > V1_MAX:
        raise ProxyError("PROXY version 1 header is longer than 107 octets")
    return more


cdef Py_ssize_t _v1_rest(bytes line):
    """Octets up to the end of the shortest good line; a word is a space and one character."""
    if V1_UNKNOWN.startswith(line):
        return V1_MIN - len(line)
    if line.startswith(V1_UNKNOWN):
        return 2
    return 2 + 2 * max(0, V1_SPACES - line.count(b" "))


cdef Header _v1_header(bytes line):
    cdef Header header
    cdef list words = line.split(b" ")
    if words[1] == b"UNKNOWN":  # the rest of the line is to be ignored
        return Header(1, "PROXY", "UNKNOWN", len(line) + 2)
    if words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError("PROXY version 1 header with a protocol other than TCP4, TCP6, UNKNOWN")
    if len(words) != V1_SPACES + 1:
        raise ProxyError("PROXY version 1 header without two addresses and two ports")
    header = Header(1, "PROXY", words[1].decode(), len(line) + 2)
    header.source_ip = _v1_address(words[2], header.family)
    header.destination_ip = _v1_address(words[3], header.family)
    header.source_port = _v1_port(words[4])
    header.destination_port = _v1_port(words[5])
    return header


cdef str _v1_address(bytes word, str family):
    try:
        if b"%" in word or b"/" in word:
            raise ValueError
        if family == "TCP4":
            return str(IPv4Address(word.decode("ascii")))
        return canonical(IPv6Address(word.decode("ascii")))
    except ValueError:
        raise ProxyError(f"PROXY version 1 header with a bad {family} address") from None


cdef int _v1_port(bytes word) except -1:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535 or word != b"%d" % int(word):
        raise ProxyError("PROXY version 1 header with a bad port")
    return int(word)


cdef object _parse_v2(bytes data):
    cdef Py_ssize_t size = len(data)
    if size < V2_FIXED:
        return V2_FIXED - size
    cdef const unsigned char *octets = data
    cdef int command = octets[12] & 0x0F
    cdef int family = octets[13]
    cdef Py_ssize_t length = octets[14] << 8 | octets[15]
    if octets[12] >> 4 != 2:
        raise ProxyError(
            f"PROXY header of unknown version {octets[12] >> 4}: set send-proxy or send-proxy-v2"
        )
    if command not in (LOCAL, PROXY):
        raise ProxyError(f"PROXY version 2 header with unknown command {command}")
    if length > V2_MAX:
        raise ProxyError("PROXY version 2 header is longer than 16 + 4096 octets")
    if command == PROXY and family & 0x0F == DGRAM:
        raise ProxyError("PROXY version 2 header for DGRAM: mail comes over a stream")
    if command == PROXY and family not in FAMILIES:
        raise ProxyError(f"PROXY version 2 header with unknown address family 0x{family:02x}")
    if size < V2_FIXED + length:
        return V2_FIXED + length - size
    if command == LOCAL:
        # "the receiver [...] must discard the protocol block including the family" (§2.2)
        return Header(2, "LOCAL", "UNSPEC", V2_FIXED + length)
    return _v2_header(data[:V2_FIXED + length], family)


cdef Header _v2_header(bytes data, int family):
    cdef str name
    cdef Py_ssize_t length
    name, length = FAMILIES[family]
    cdef Header header = Header(2, "PROXY", name, len(data))
    cdef bytes addresses = data[V2_FIXED:V2_FIXED + length]
    if len(addresses) < length:
        raise ProxyError(f"PROXY version 2 header is too short for {name} addresses")
    if name == "TCP4":
        header.source_ip = str(IPv4Address(addresses[0:4]))
        header.destination_ip = str(IPv4Address(addresses[4:8]))
    elif name == "TCP6":
        header.source_ip = canonical(IPv6Address(addresses[0:16]))
        header.destination_ip = canonical(IPv6Address(addresses[16:32]))
    if name in ("TCP4", "TCP6"):
        header.source_port = int.from_bytes(addresses[length - 4:length - 2], "big")
        header.destination_port = int.from_bytes(addresses[length - 2:length], "big")
    _read_tlvs(header, data, V2_FIXED + length)
    return header


cdef int _read_tlvs(Header header, bytes data, Py_ssize_t start) except -1:
    cdef bint checked = False
    for kind, value, position in _tlvs(data, start):
        if kind == TLV_ALPN:
            header.alpn = _text(value)
        elif kind == TLV_AUTHORITY:
            header.authority = _text(value)
        elif kind == TLV_UNIQUE_ID:
            if len(value) > UNIQUE_ID_MAX:
                raise ProxyError("PROXY version 2 header with a unique id over 128 octets")
            header.unique_id = _text(value)
        elif kind == TLV_CRC32C:
            zeroed = data[:position] + b"\0\0\0\0" + data[position + 4:]
            if checked or len(value) != 4 or int.from_bytes(value, "big") != _crc32c(zeroed):
                raise ProxyError("PROXY version 2 header with a wrong CRC32C checksum")
            checked = True
        elif kind == TLV_SSL:
            _read_ssl(header, value)
    return 0


cdef int _read_ssl(Header header, bytes value) except -1:
    """PP2_TYPE_SSL (§2.2.6): flags, verify result (0: good), TLVs."""
    if len(value) < SSL_FIXED:
        raise ProxyError("PROXY version 2 header with a truncated SSL TLV")
    cdef int flags = int.from_bytes(value[:1], "big")
    header.secure = flags & CLIENT_SSL != 0
    header.client_verified = value[1:5] == b"\0\0\0\0" if flags & CLIENT_CERT else None
    for kind, text, _ in _tlvs(value, SSL_FIXED):
        if kind == TLV_SSL_VERSION:
            header.tls = _text(text)
        elif kind == TLV_SSL_CN:
            header.client_cn = _text(text)
    return 0


cdef list _tlvs(bytes data, Py_ssize_t position):
    """(type, value, where the value starts) of all TLVs from `position` to the end."""
    cdef list found = []
    cdef const unsigned char *octets = data
    cdef Py_ssize_t length
    while position < len(data):
        if position + 3 > len(data):
            raise ProxyError("PROXY version 2 header with a truncated TLV")
        length = octets[position + 1] << 8 | octets[position + 2]
        if position + 3 + length > len(data):
            raise ProxyError("PROXY version 2 header with a TLV that is longer than the header")
        found.append((octets[position], data[position + 3:position + 3 + length], position + 3))
        position += 3 + length
    return found


cdef str _text(bytes value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


cdef unsigned int _crc32c(bytes data):
    """CRC-32C (RFC 4960 appendix B), reflected polynomial 0x82F63B78."""
    cdef unsigned int crc = 0xFFFFFFFF
    cdef unsigned char octet
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
