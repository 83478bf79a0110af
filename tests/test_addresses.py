"""addresses: the canonical form of an address and what counts as one client stand once."""

from ipaddress import ip_address

import pytest

from fastsmtp import values
from fastsmtp._proxy import parse
from fastsmtp.addresses import client_network, packed, plain_address


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::", "::"),
    ],
)
def test_sockets_settings_and_proxies_write_an_address_the_same_way(text, canonical):
    assert plain_address(text) == canonical
    assert values.ADDRESSES.parse(text) == (canonical,)
    family = "TCP6" if ":" in text else "TCP4"
    header = parse(f"PROXY {family} {text} {text} 1 2\r\n".encode())
    assert (header.source_ip, header.destination_ip) == (canonical, canonical)
    assert packed(canonical) == ip_address(canonical).packed


def test_a_scope_is_no_part_of_a_clients_address():
    assert plain_address("fe80::1%lo") == "fe80::1"


@pytest.mark.parametrize("text", ["", "mx.example", "192.0.2", "192.0.2.1:25"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="does not appear to be"):
        plain_address(text)


def test_one_client_is_an_ipv4_address_or_an_ipv6_64():
    assert client_network("192.0.2.1") == bytes([192, 0, 2, 1])
    assert client_network("192.0.2.2") != client_network("192.0.2.1")
    assert client_network("2001:db8:0:1::1") == client_network("2001:db8:0:1:ffff::2")
    assert client_network("2001:db8:0:1::1") != client_network("2001:db8:0:2::1")
