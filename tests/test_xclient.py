"""xclient: the argument of XCLIENT as Postfix's XCLIENT_README writes it, good and bad."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.xclient import ATTRIBUTES, XclientError, parse

GOOD = {
    b"NAME=spike.porcupine.org ADDR=168.100.189.2": {
        "NAME": "spike.porcupine.org",
        "ADDR": "168.100.189.2",
    },
    b"ADDR=IPV6:2001:DB8:0::1 PORT=4711": {"ADDR": "2001:db8::1", "PORT": "4711"},
    b"addr=ipv6:::ffff:192.0.2.1": {"ADDR": "192.0.2.1"},
    b"NAME=[UNAVAILABLE] ADDR=[TEMPUNAVAIL] PORT=[unavailable] LOGIN=[UNAVAILABLE]": {
        "NAME": "",
        "ADDR": "",
        "PORT": "",
        "LOGIN": "",
    },
    b"  PROTO=esmtp   HELO=me  ": {"PROTO": "esmtp", "HELO": "me"},
    b"LOGIN=a+3Db+40example.com": {"LOGIN": "a=b@example.com"},
    b"LOGIN=a=b": {"LOGIN": "a=b"},
    b"LOGIN=J+c3+a4rg+2B": {"LOGIN": "J\u00e4rg+"},
    b"HELO=two+20words": {"HELO": "two words"},
    b"HELO=[192.0.2.1]": {"HELO": "[192.0.2.1]"},
    b"DESTADDR=192.0.2.9 DESTPORT=25": {"DESTADDR": "192.0.2.9", "DESTPORT": "25"},
    b"ADDR=+31+39+32.0.2.1 PORT=0": {"ADDR": "192.0.2.1", "PORT": "0"},
}

BAD = [
    b"", b" ", b"NAME", b"NAME=", b"=x", b"FOO=x", b"NAME=a NAME=b", b"NAME=a name=b",
    b"ADDR=1.2.3", b"ADDR=1.2.3.256", b"ADDR=01.2.3.4", b"ADDR=2001:db8::1", b"ADDR=IPV6:1.2.3.4",
    b"ADDR=IPV6:", b"ADDR=IPV6:fe80::1%eth0", b"ADDR=localhost", b"ADDR=1.2.3.4+00",
    b"PORT=65536", b"PORT=-1", b"PORT=+2B1", b"PORT=smtp", b"PORT=000001", b"PORT=+D9+A3",
    b"PROTO=LMTP", b"LOGIN=a+0Ab", b"LOGIN=a+0db", b"LOGIN=+00", b"LOGIN=a+", b"LOGIN=a+4",
    b"LOGIN=a+GG", b"LOGIN=+ff", b"LOGIN=\xc3\xa9", b"HELO=+E2+80+AE", b"DESTADDR=x", b"DESTPORT=x",
    b"NAME=a,ADDR=1.2.3.4 x",
]  # fmt: skip


@pytest.mark.parametrize("argument", GOOD, ids=bytes.decode)
def test_attributes_come_in_their_one_form(argument):
    assert parse(argument) == GOOD[argument]


@pytest.mark.parametrize("argument", BAD)
def test_what_is_wrong_is_refused_as_a_whole(argument):
    with pytest.raises(XclientError):
        parse(argument)
    if argument.strip():
        with pytest.raises(XclientError):
            parse(b"ADDR=192.0.2.1 " + argument + b" LOGIN=me")


TEXT = st.text(min_size=1, max_size=40).filter(
    lambda text: text.isprintable() and text.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
)


@given(st.dictionaries(st.sampled_from(["NAME", "HELO", "LOGIN"]), TEXT, min_size=1))
def test_any_printable_text_comes_back_from_xtext(said):
    words = [
        name.encode() + b"=" + b"".join(b"+%02X" % octet for octet in text.encode())
        for name, text in said.items()
    ]
    assert parse(b" ".join(words)) == said


def test_the_attributes_are_postfixs():
    assert list(ATTRIBUTES) == [
        "NAME",
        "ADDR",
        "PORT",
        "PROTO",
        "HELO",
        "LOGIN",
        "DESTADDR",
        "DESTPORT",
    ]
