import ipaddress
import re
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp._proxy import Header, ProxyError, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ATTRIBUTES = [
    "version",
    "command",
    "family",
    "size",
    "source_ip",
    "source_port",
    "destination_ip",
    "destination_port",
    "unique_id",
    "authority",
    "alpn",
    "secure",
    "tls",
    "client_cn",
    "client_verified",
]


def facts(header: Header) -> dict:
    return {name: getattr(header, name) for name in ATTRIBUTES}


def header(**given) -> dict:
    nothing = dict.fromkeys(ATTRIBUTES, "")
    return nothing | {
        "source_port": 0,
        "destination_port": 0,
        "secure": False,
        "client_verified": None,
        **given,
    }


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def v2(block: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def crc32c(data: bytes) -> int:
    """Long division of the bit string by the Castagnoli polynomial, as on paper."""
    bits = "".join(f"{octet:08b}"[::-1] for octet in data) + "0" * 32
    rest = [int(bit) for bit in bits]
    for position in range(min(32, len(rest))):
        rest[position] ^= 1
    poly = [int(bit) for bit in f"{0x1_1EDC_6F41:033b}"]
    for position in range(len(rest) - 32):
        if rest[position]:
            for offset in range(33):
                rest[position + offset] ^= poly[offset]
    return int("".join(str(bit ^ 1) for bit in reversed(rest[-32:])), 2)


def with_checksum(block: bytes, more: bytes = b"", wrong: int = 0) -> bytes:
    blank = v2(block + tlv(3, b"\0\0\0\0") + more)
    value = struct.pack("!I", crc32c(blank) ^ wrong)
    return v2(block + tlv(3, value) + more)


TCP4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 40000, 25)
TCP6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.9")
    + struct.pack("!HH", 1, 65535)
)
SSL = tlv(
    0x20,
    b"\x07\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"cn.example") + tlv(0x23, b"AES"),
)

GOOD = {
    "v1-tcp4": (
        b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n",
        {
            "version": 1,
            "family": "TCP4",
            "source_ip": "192.0.2.1",
            "source_port": 40000,
            "destination_ip": "198.51.100.2",
            "destination_port": 25,
        },
    ),
    "v1-tcp6": (
        b"PROXY TCP6 2001:DB8:0::1 ::ffff:192.0.2.9 0 65535\r\n",
        {
            "version": 1,
            "family": "TCP6",
            "source_ip": "2001:db8::1",
            "destination_ip": "192.0.2.9",
            "destination_port": 65535,
        },
    ),
    "v1-shortest": (
        b"PROXY TCP6 :: :: 1 2\r\n",
        {
            "version": 1,
            "family": "TCP6",
            "source_ip": "::",
            "source_port": 1,
            "destination_ip": "::",
            "destination_port": 2,
        },
    ),
    "v1-longest": (
        b"PROXY UNKNOWN " + b"f" * (107 - 16) + b"\r\n",
        {"version": 1, "family": "UNKNOWN"},
    ),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", {"version": 1, "family": "UNKNOWN"}),
    "v1-unknown-more": (b"PROXY UNKNOWN a b c\r\n", {"version": 1, "family": "UNKNOWN"}),
    "v2-tcp4": (
        v2(TCP4),
        {
            "family": "TCP4",
            "source_ip": "192.0.2.1",
            "source_port": 40000,
            "destination_ip": "198.51.100.2",
            "destination_port": 25,
        },
    ),
    "v2-tcp6": (
        v2(TCP6, family=0x21),
        {
            "family": "TCP6",
            "source_ip": "2001:db8::1",
            "source_port": 1,
            "destination_ip": "192.0.2.9",
            "destination_port": 65535,
        },
    ),
    "v2-unix": (v2(bytes(216), family=0x31), {"family": "UNIX"}),
    "v2-unspec": (v2(b"", family=0), {"family": "UNSPEC"}),
    "v2-unspec-tlv": (
        v2(tlv(5, b"id-1") + tlv(4, b"\0" * 9), family=0),
        {"family": "UNSPEC", "unique_id": "id-1"},
    ),
    "v2-local": (v2(b"", command=0x20, family=0), {"command": "LOCAL", "family": "UNSPEC"}),
    "v2-local-family-ignored": (
        v2(b"\xff" * 5, command=0x20, family=0x12),
        {"command": "LOCAL", "family": "UNSPEC"},
    ),
    "v2-local-block-unread": (
        v2(b"\xff\xff", command=0x20, family=0),
        {"command": "LOCAL", "family": "UNSPEC"},
    ),
    "v2-local-tlvs-unread": (
        v2(tlv(5, b"id-1") + SSL + tlv(3, bytes(4)), command=0x20, family=0),
        {"command": "LOCAL", "family": "UNSPEC"},
    ),
    "v2-local-short-tcp4": (
        v2(TCP4[:-1], command=0x20),
        {"command": "LOCAL", "family": "UNSPEC"},
    ),
    "v2-local-largest": (
        v2(b"\x05" * 4096, command=0x20, family=0),
        {"command": "LOCAL", "family": "UNSPEC"},
    ),
    "v2-largest": (v2(tlv(0xE0, bytes(4093)), family=0), {"family": "UNSPEC"}),
    "v2-checksum": (
        with_checksum(b"\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a", tlv(1, b"smtp")),
        {
            "family": "TCP4",
            "source_ip": "1.2.3.4",
            "source_port": 9,
            "destination_ip": "5.6.7.8",
            "destination_port": 10,
            "alpn": "smtp",
        },
    ),
    "v2-ssl": (
        v2(SSL + tlv(2, b"mx.example.org") + tlv(5, b"\xe9"), family=0),
        {
            "family": "UNSPEC",
            "secure": True,
            "tls": "TLSv1.3",
            "client_cn": "cn.example",
            "client_verified": True,
            "authority": "mx.example.org",
            "unique_id": "\u00e9",
        },
    ),
    "v2-ssl-not-verified": (
        v2(tlv(0x20, b"\x03\0\0\0\x01"), family=0),
        {"family": "UNSPEC", "secure": True, "client_verified": False},
    ),
    "v2-ssl-no-certificate": (
        v2(tlv(0x20, b"\x01\0\0\0\x01"), family=0),
        {"family": "UNSPEC", "secure": True},
    ),
    "v2-ssl-plain": (v2(tlv(0x20, b"\0\0\0\0\0"), family=0), {"family": "UNSPEC"}),
}

BAD = {
    "no-header": (b"EHLO client.example\r\n", "no PROXY header"),
    "lower-case": (b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "no PROXY header"),
    "word-alone": (b"PROXY\r\n", "no PROXY header"),
    "empty-line": (b"\r\n\r\nEHLO\r\n", "no PROXY header"),
    "tls": (b"\x16\x03\x01\x02\x00", "TLS came before"),
    "v1-protocol": (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "protocol other than"),
    "v1-unknownx": (b"PROXY UNKNOWNX\r\n", "protocol other than"),
    "v1-two-spaces": (b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "protocol other than"),
    "v1-few-words": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "two addresses and two ports"),
    "v1-many-words": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "two addresses and two ports"),
    "v1-end-space": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "two addresses and two ports"),
    "v1-leading-zero": (b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", "bad TCP4 address"),
    "v1-octet-256": (b"PROXY TCP4 1.2.3.4 5.6.7.256 1 2\r\n", "bad TCP4 address"),
    "v1-wrong-family": (b"PROXY TCP4 ::1 ::2 1 2\r\n", "bad TCP4 address"),
    "v1-wrong-family-6": (b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "bad TCP6 address"),
    "v1-scope": (b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "bad TCP6 address"),
    "v1-not-ascii": (b"PROXY TCP4 1.2.3.\xb9 5.6.7.8 1 2\r\n", "bad TCP4 address"),
    "v1-port-big": (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "bad port"),
    "v1-port-zero": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n", "bad port"),
    "v1-port-minus": (b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", "bad port"),
    "v1-bare-lf": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "bare CR or LF"),
    "v1-bare-cr": (b"PROXY UNKNOWN a\rb\r\n", "bare CR or LF"),
    "v1-two-crs": (b"PROXY UNKNOWN\r\r\n", "bare CR or LF"),
    "v1-108": (b"PROXY UNKNOWN " + b"f" * (108 - 16) + b"\r\n", "longer than 107"),
    "v1-endless": (b"PROXY TCP4 " + b"1" * 200, "longer than 107"),
    "v2-version-1": (v2(TCP4, command=0x11), "unknown version 1"),
    "v2-version-3": (v2(TCP4, command=0x31), "unknown version 3"),
    "v2-command": (v2(TCP4, command=0x22), "unknown command 2"),
    "v2-too-long": (v2(bytes(4097)), "longer than 16 [+] 4096"),
    "v2-local-too-long": (v2(bytes(4097), command=0x20, family=0), "longer than 16 [+] 4096"),
    "v2-udp": (v2(TCP4, family=0x12), "DGRAM"),
    "v2-unix-dgram": (v2(bytes(216), family=0x32), "DGRAM"),
    "v2-family": (v2(TCP4, family=0x41), "unknown address family 0x41"),
    "v2-no-protocol": (v2(TCP4, family=0x10), "unknown address family 0x10"),
    "v2-short-tcp4": (v2(TCP4[:-1]), "too short for TCP4"),
    "v2-short-tcp6": (v2(TCP6[:-1], family=0x21), "too short for TCP6"),
    "v2-short-unix": (v2(bytes(215), family=0x31), "too short for UNIX"),
    "v2-tlv-cut": (v2(TCP4 + b"\x05\0"), "truncated TLV"),
    "v2-tlv-lies": (v2(TCP4 + b"\x05\0\x05abcd"), "longer than the header"),
    "v2-tlv-lies-much": (v2(TCP4 + b"\x05\xff\xffabcd"), "longer than the header"),
    "v2-unspec-garbage": (v2(b"\xff\xff", family=0), "truncated TLV"),
    "v2-unique-id": (v2(TCP4 + tlv(5, bytes(129))), "unique id over 128"),
    "v2-ssl-short": (v2(TCP4 + tlv(0x20, b"\x01\0\0\0")), "truncated SSL TLV"),
    "v2-ssl-lies": (
        v2(TCP4 + tlv(0x20, b"\x01\0\0\0\0\x21\0\x04TLS") + tlv(4, bytes(99))),
        "longer than the header",
    ),
    "v2-checksum": (with_checksum(TCP4, wrong=1), "wrong CRC32C"),
    "v2-checksum-length": (v2(TCP4 + tlv(3, b"\0\0\0")), "wrong CRC32C"),
    "v2-checksum-twice": (with_checksum(TCP4, tlv(3, bytes(4))), "wrong CRC32C"),
}


def test_the_paper_checksum_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the catalogue's check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4


@pytest.mark.parametrize("name", GOOD)
def test_good_header_whole_and_with_trailing_bytes(name):
    data, said = GOOD[name]
    expected = header(**({"version": 2, "command": "PROXY", "size": len(data)} | said))
    assert facts(parse(data)) == expected
    assert facts(parse(data + b"\x16\x03\x01")) == expected
    assert facts(parse(data + data)) == expected


@pytest.mark.parametrize("name", GOOD)
def test_every_truncation_asks_for_bytes_of_the_header_only(name):
    data, _ = GOOD[name]
    for size in range(len(data)):
        more = parse(data[:size])
        assert type(more) is int
        assert 1 <= more <= len(data) - size


@pytest.mark.parametrize("name", GOOD)
def test_reading_what_is_asked_for_ends_at_the_header(name):
    data, _ = GOOD[name]
    seen, reads = b"", 0
    while isinstance(more := parse(seen), int):
        seen += data[len(seen) : len(seen) + more]
        reads += 1
    assert seen == data
    assert reads <= 60


@pytest.mark.parametrize("name", BAD)
def test_bad_header_says_what_is_wrong(name):
    data, text = BAD[name]
    with pytest.raises(ProxyError, match=text):
        parse(data)


@pytest.mark.parametrize("name", BAD)
def test_bad_header_is_found_byte_by_byte_too(name):
    data, _ = BAD[name]
    whole = next(size for size in range(len(data) + 1) if outcome(parse, data[:size]) != "more")
    assert outcome(parse, data[:whole]) == "bad"


@pytest.mark.parametrize("octet", range(256))
def test_first_octet_decides(octet):
    first = bytes([octet])
    if first in (b"P", b"\r"):
        assert parse(first) == 14 if octet == ord("P") else 15
    else:
        with pytest.raises(ProxyError):
            parse(first)


def test_each_damaged_octet_breaks_the_checksum():
    data = with_checksum(TCP4, tlv(5, b"id"))
    for position in range(len(SIGNATURE) + 4, len(data)):
        damaged = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        if damaged[28] != 3:  # the TLV is no checksum any more
            continue
        with pytest.raises(ProxyError):
            parse(damaged)


# --- a slow model: one regular expression, and a walk with whole slices ---


class BadError(Exception):
    pass


class MoreError(Exception):
    pass


def plain(address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


def model(data: bytes) -> dict:
    """The facts of the header; BadError; or MoreError where nothing is wrong yet."""
    if data.startswith(b"PROXY "):
        return model_v1(data)
    if data.startswith(SIGNATURE):
        return model_v2(data)
    if b"PROXY ".startswith(data) or SIGNATURE.startswith(data):
        raise MoreError
    raise BadError


def model_v1(data: bytes) -> dict:
    line, end, _ = data[:107].partition(b"\r\n")
    if not end:
        if len(data) >= 107 or re.search(rb"\n|\r(?!\Z)", data):
            raise BadError
        unknown = data.startswith(b"PROXY UNKNOWN") or b"PROXY UNKNOWN".startswith(data)
        words = 0 if unknown else max(0, 5 - data.count(b" "))
        if len(data.removesuffix(b"\r")) + 2 * words + 2 > 107:
            raise BadError  # no room for the words that are missing
        raise MoreError
    if re.search(rb"[\r\n]", line):
        raise BadError
    if re.fullmatch(rb"PROXY UNKNOWN( .*)?", line, re.DOTALL):
        return header(version=1, command="PROXY", family="UNKNOWN", size=len(line) + 2)
    match = re.fullmatch(
        rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)" + rb" (0|[1-9][0-9]{0,4})" * 2, line
    )
    if not match or int(match[4]) > 65535 or int(match[5]) > 65535:
        raise BadError
    kind = ipaddress.IPv4Address if match[1] == b"4" else ipaddress.IPv6Address
    try:
        source, destination = (plain(kind(match[n].decode())) for n in (2, 3))
    except ValueError:
        raise BadError from None
    return header(
        version=1,
        command="PROXY",
        family="TCP" + match[1].decode(),
        size=len(line) + 2,
        source_ip=source,
        destination_ip=destination,
        source_port=int(match[4]),
        destination_port=int(match[5]),
    )


def model_v2(data: bytes) -> dict:
    if len(data) < 16:
        raise MoreError
    version, family, length = struct.unpack("!BBH", data[12:16])
    names = {0: ("UNSPEC", 0), 0x11: ("TCP4", 12), 0x21: ("TCP6", 36), 0x31: ("UNIX", 216)}
    if version not in (0x20, 0x21) or length > 4096 or (version == 0x21 and family not in names):
        raise BadError
    if len(data) < 16 + length:
        raise MoreError
    data = data[: 16 + length]
    command = "LOCAL" if version == 0x20 else "PROXY"
    if command == "LOCAL":
        return header(version=2, command=command, family="UNSPEC", size=len(data))
    name, size = names[family]
    found = header(version=2, command=command, family=name, size=len(data))
    block = data[16 : 16 + size]
    if len(block) < size:
        raise BadError
    if name in ("TCP4", "TCP6"):
        kind = ipaddress.IPv4Address if name == "TCP4" else ipaddress.IPv6Address
        width = 4 if name == "TCP4" else 16
        found["source_ip"] = plain(kind(block[:width]))
        found["destination_ip"] = plain(kind(block[width : 2 * width]))
        found["source_port"], found["destination_port"] = struct.unpack("!HH", block[-4:])
    pairs = model_tlvs(data[16 + size :])
    for kind, value in pairs:
        if kind == 3:
            others = [(k, bytes(4) if k == 3 else v) for k, v in pairs]
            blank = data[: 16 + size] + b"".join(tlv(k, v) for k, v in others)
            twice = [k for k, _ in pairs].count(3) > 1
            if twice or len(value) != 4 or crc32c(blank) != int.from_bytes(value, "big"):
                raise BadError
        elif kind in (1, 2, 5):
            if kind == 5 and len(value) > 128:
                raise BadError
            found[{1: "alpn", 2: "authority", 5: "unique_id"}[kind]] = text(value)
        elif kind == 0x20:
            if len(value) < 5:
                raise BadError
            found["secure"] = value[0] % 2 == 1
            certificate = value[0] // 2 % 4 != 0
            found["client_verified"] = value[1:5] == bytes(4) if certificate else None
            for sub, inner in model_tlvs(value[5:]):
                if sub in (0x21, 0x22):
                    found[{0x21: "tls", 0x22: "client_cn"}[sub]] = text(inner)
    return found


def model_tlvs(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        if len(data) < 3 or len(data) < 3 + int.from_bytes(data[1:3], "big"):
            raise BadError
        length = int.from_bytes(data[1:3], "big")
        found.append((data[0], data[3 : 3 + length]))
        data = data[3 + length :]
    return found


def text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def outcome(judge, data: bytes):
    try:
        seen = judge(data)
    except (BadError, ProxyError):
        return "bad"
    except MoreError:
        return "more"
    if isinstance(seen, Header):
        return facts(seen)
    return "more" if isinstance(seen, int) else seen


v1_words = st.sampled_from(
    b"TCP4 TCP6 UNKNOWN 1.2.3.4 255.255.255.255 :: ::1 2001:db8::1 ::ffff:1.2.3.4 ::1.2.3.4".split()
    + b"1:2:3:4:5:6:7:8 0 25 65535 65536 1.2.3 \xff 00".split()
    + [b"", b"a" * 90, b"\r", b"\n", b"ffff:" * 7 + b"ffff"]
)
v1_good = st.builds(
    lambda source, destination, a, b: (
        b"PROXY TCP%d %b %b %d %d"
        % (source.version, str(source).encode(), str(destination).encode(), a, b)
    ),
    *[st.shared(st.sampled_from([4, 6]), key="v").flatmap(lambda v: st.ip_addresses(v=v))] * 2,
    *[st.integers(0, 65535)] * 2,
)
v1_headers = st.builds(
    lambda line, end: line + end,
    st.one_of(v1_good, st.lists(v1_words, max_size=7).map(lambda w: b" ".join([b"PROXY", *w]))),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n\x16\x03", b"\n", b"\r", b""]),
)
tlvs = st.builds(
    lambda kind, value, lie: tlv(kind, value)[: lie or None],
    st.sampled_from([1, 2, 3, 4, 5, 0x20, 0x30, 0xEE]),
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\x01" + bytes(4), b"\x07" + bytes(4), b"\x02\0\0\0\1", bytes(129)]),
        st.just(SSL[3:]),
    ),
    st.sampled_from([0, 0, 0, 0, -1, 2]),
)
v2_headers = st.builds(
    lambda command, family, addresses, more, tail: (
        v2(addresses + b"".join(more), command, family) + tail
    ),
    st.sampled_from([0x21, 0x21, 0x21, 0x20, 0x22, 0x11]),
    st.sampled_from([0x11, 0x11, 0x21, 0x31, 0x00, 0x12, 0x41]),
    st.sampled_from([TCP4, TCP4, TCP6, bytes(216), b""]),
    st.lists(tlvs, max_size=4),
    st.sampled_from([b"", b"\x16\x03\x01"]),
)
checked_headers = st.builds(
    with_checksum,
    st.just(TCP4),
    st.lists(tlvs, max_size=2).map(b"".join),
    st.sampled_from([0, 0, 1]),
)


@given(st.one_of(v1_headers, v2_headers, checked_headers, st.binary(max_size=40)))
def test_agrees_with_the_model(data):
    assert outcome(parse, data) == outcome(model, data)


@given(st.one_of(v1_headers, v2_headers, checked_headers), st.data())
def test_the_same_under_every_split(data, draw):
    whole = outcome(parse, data)
    size = 0
    while size < len(data) and isinstance(parse(data[:size]), int):
        size += draw.draw(st.integers(1, max(1, len(data) - size)))
        try:
            parse(data[:size])
        except ProxyError:
            break
    assert outcome(parse, data[:size]) == whole


@given(st.one_of(v1_headers, v2_headers, checked_headers))
def test_never_asks_for_a_byte_behind_the_header(data):
    whole = parse_or_none(data)
    for size in range(whole.size if whole else 0):
        assert size + parse(data[:size]) <= whole.size


def parse_or_none(data: bytes) -> Header | None:
    try:
        seen = parse(data)
    except ProxyError:
        return None
    return seen if isinstance(seen, Header) else None
