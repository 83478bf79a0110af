"""The promises of the settings: keys, defaults, and what each type of value takes."""

import re
import socket
import string
from dataclasses import FrozenInstanceError
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp import values
from fastsmtp.settings import SETTINGS, Settings, attribute

MB = 1024 * 1024
GB = 1024 * MB

PROMISED = {
    "smtp-ip": ((), "empty"),
    "smtp-port": ((25,), "25"),
    "smtp-secure-port": ((), "empty"),
    "smtp-hostname": (None, "the machine's FQDN"),
    "smtp-threads": (1, "1"),
    "smtp-maxsize": (100 * MB, "100MB"),
    "user": ("", "empty"),
    "group": ("", "empty"),
    "smtp-certificate": ((), "empty"),
    "smtp-key": ((), "empty"),
    "smtp-ciphers": ("", "ECDHE+AESGCM:ECDHE+CHACHA20"),
    "smtp-tls-minimum": ("1.2", "1.2"),
    "smtp-range": ((), "empty"),
    "smtp-username": ("", "empty"),
    "smtp-password": ("", "empty"),
    "smtp-auth": ("", "empty"),
    "smtp-insecure-auth": (False, "false"),
    "smtp-require-tls": (False, "false"),
    "smtp-proxy": ((), "empty"),
    "smtp-xclient": ((), "empty"),
    "log-auth-names": (False, "false"),
    "smtp-extract": ("true", "true"),
    "smtp-trusted": ((), "empty"),
    "smtp-default-ips": ((), "empty"),
    "smtp-mappable-ips": ((), "empty"),
    "smtp-unmappable-ips": ((), "empty"),
    "smtp-timeout": (300.0, "300"),
    "smtp-minrate": (1024, "1KB"),
    "smtp-session-timeout": (3600.0, "1h"),
    "smtp-connections": (10000, "10000"),
    "smtp-connections-per-ip": (0, "0"),
    "smtp-maxrecipients": (1000, "1000"),
    "smtp-maxfanout": (4 * GB, "4GB"),
    "smtp-maxerrors": (20, "20"),
    "smtp-maxmemory": (GB, "1GB"),
    "smtp-bare-newline": ("normalize", "normalize"),
    "json-binary": ("base64", "base64"),
    "smtp-received": (False, "false"),
    "smtp-grace": (30.0, "30"),
    "rabbitmq-address": (("amqp://guest:guest@localhost/",), "amqp://guest:guest@localhost/"),
    "rabbitmq-verify": (True, "true"),
    "rabbitmq-ca": ("", "empty"),
    "rabbitmq-certificate": ("", "empty"),
    "rabbitmq-key": ("", "empty"),
    "rabbitmq-outbox": ("outbox", "outbox"),
    "rabbitmq-inbox": ("outbox", "value of rabbitmq-outbox"),
    "rabbitmq-exchange": ("", "empty"),
    "rabbitmq-declare": (True, "true"),
    "rabbitmq-durable": (True, "true"),
    "rabbitmq-queue-type": ("", "empty"),
    "rabbitmq-lazy": (False, "false"),
    "rabbitmq-maxpriority": (None, "empty"),
    "rabbitmq-persistent": (True, "true"),
    "rabbitmq-encoding": ("", "empty"),
    "rabbitmq-publishers": (1, "1"),
    "rabbitmq-throttle": (1000, "1000"),
    "rabbitmq-timeout": (30.0, "30"),
    "rabbitmq-maxsize": (None, "by broker version"),
    "rabbitmq-spill": ("", "empty"),
    "rabbitmq-spill-after": (2.0, "2s"),
    "rabbitmq-spill-unroutable": (False, "false"),
    "rabbitmq-spill-nacked": (False, "false"),
    "rabbitmq-fingerprint": (False, "false"),
    "queue-file": (
        None,
        "/var/lib/fastsmtp/queue.db for root, else $XDG_STATE_HOME/fastsmtp/queue.db",
    ),
    "queue-maxsize": (10 * GB, "10GB"),
    "log-level": ("info", "info"),
    "log-format": ("text", "text"),
    "received-log": ("", "empty"),
    "log-messages": (False, "false"),
    "metrics-address": (None, "empty"),
}
"""Every key that is promised: its default as a value (None: see the tests below), and in words."""


def test_keys_are_those_promised() -> None:
    assert list(SETTINGS) == list(PROMISED)


@pytest.mark.parametrize("key", PROMISED)
def test_defaults_are_those_promised(key: str) -> None:
    value, words = PROMISED[key]
    assert SETTINGS[key].shown_default == words
    if key not in ("smtp-hostname", "queue-file"):
        effective = getattr(Settings(), attribute(key))
        assert effective == value
        assert type(effective) is type(value)


@pytest.mark.parametrize("key", PROMISED)
def test_every_key_has_a_meaning_in_plain_sentences(key: str) -> None:
    assert SETTINGS[key].meaning.endswith(".")
    assert SETTINGS[key].meaning.isprintable()


def test_hostname_is_the_machines() -> None:
    assert Settings().smtp_hostname in (socket.gethostname(), socket.getfqdn())


@pytest.mark.parametrize(
    ("uid", "state", "path"),
    [
        (0, "/state", "/var/lib/fastsmtp/queue.db"),
        (1000, "/state", "/state/fastsmtp/queue.db"),
        (1000, "", "/home/me/.local/state/fastsmtp/queue.db"),
    ],
)
def test_queue_file(uid: int, state: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings().queue_file == path


def test_inbox_follows_the_outbox() -> None:
    assert Settings(rabbitmq_outbox="out").rabbitmq_inbox == "out"
    assert Settings(rabbitmq_outbox="out", rabbitmq_inbox="in").rabbitmq_inbox == "in"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().smtp_maxsize = 1


def test_repr_holds_no_password() -> None:
    assert "hunter2" not in repr(Settings(smtp_password="hunter2"))


SECRETS = {"smtp-password", "smtp-auth"}


def test_secrets_are_marked() -> None:
    assert {key for key, about in SETTINGS.items() if about.secret} == SECRETS


GOOD = [
    ("smtp-maxsize", "1", 1),
    ("smtp-maxsize", "12B", 12),
    ("smtp-maxsize", "2kb", 2048),
    ("smtp-maxsize", "1.5 Mb", 3 * MB // 2),
    ("smtp-maxsize", "3GB", 3 * GB),
    ("rabbitmq-maxsize", "16MB", 16 * MB),
    ("smtp-timeout", "0.5", 0.5),
    ("smtp-timeout", "250ms", 0.25),
    ("smtp-timeout", "10S", 10.0),
    ("smtp-timeout", "5 m", 300.0),
    ("smtp-timeout", "2h", 7200.0),
    ("smtp-grace", "0", 0.0),
    *(("smtp-received", text, True) for text in ("true", "Yes", "ON", "1")),
    *(("smtp-received", text, False) for text in ("false", "No", "OFF", "0")),
    ("smtp-port", "25,2525,1024-1026", (25, 2525, 1024, 1025, 1026)),
    ("smtp-port", " 25 , 30 - 31 ", (25, 30, 31)),
    ("smtp-port", "25,25,24-26", (25, 24, 26)),
    ("smtp-port", "None", ()),
    ("smtp-port", "0", (0,)),
    ("smtp-ip", "127.0.0.1; ::1 ;", ("127.0.0.1", "::1")),
    ("smtp-ip", "2001:DB8:0::1;::ffff:192.0.2.1", ("2001:db8::1", "192.0.2.1")),
    ("smtp-ip", "fe80::1%eth0", ("fe80::1%eth0",)),
    (
        "smtp-range",
        "192.168.0.0/16; 10.0.0.1;2001:db8::/32",
        tuple(map(ip_network, ("192.168.0.0/16", "10.0.0.1/32", "2001:db8::/32"))),
    ),
    ("smtp-range", "10.1.2.3/8", (ip_network("10.0.0.0/8"),)),
    ("smtp-range", "::ffff:10.1.2.3", (ip_network("10.1.2.3/32"),)),
    ("smtp-range", "::ffff:10.0.0.0/104", (ip_network("10.0.0.0/8"),)),
    ("smtp-range", "::/0", (ip_network("::/0"),)),
    ("smtp-threads", "4", 4),
    ("smtp-extract", "YES", "true"),
    ("smtp-extract", "0", "false"),
    ("smtp-extract", "Trusted", "trusted"),
    ("smtp-bare-newline", "Keep", "keep"),
    ("smtp-tls-minimum", "1.3", "1.3"),
    ("rabbitmq-queue-type", "quorum", "quorum"),
    ("rabbitmq-encoding", "GZIP", "gzip"),
    ("rabbitmq-maxpriority", "255", 255),
    ("smtp-certificate", "/a.pem; /b c.pem", ("/a.pem", "/b c.pem")),
    ("rabbitmq-outbox", "ü" * 127, "ü" * 127),
    ("smtp-hostname", "mx1.example.com", "mx1.example.com"),
    ("smtp-hostname", "[192.0.2.1]", "[192.0.2.1]"),
    ("metrics-address", "127.0.0.1:9090", ("127.0.0.1", 9090)),
    ("metrics-address", "[::1]:0", ("::1", 0)),
    ("rabbitmq-address", "none", ()),
    ("rabbitmq-address", "amqp://localhost", ("amqp://localhost",)),
    ("rabbitmq-address", "amqps://u:p%40@h:5671/%2Fv", ("amqps://u:p%40@h:5671/%2Fv",)),
    ("rabbitmq-address", "amqp://[::1]:5672/", ("amqp://[::1]:5672/",)),
    (
        "rabbitmq-address",
        "amqp://u:p@h1/v, amqps://u:p@h2:5/v",
        ("amqp://u:p@h1/v", "amqps://u:p@h2:5/v"),
    ),
    (
        "rabbitmq-address",
        "amqp://u:p,q@h1;h2:5673; h3/v?heartbeat=9",
        (
            "amqp://u:p,q@h1/v?heartbeat=9",
            "amqp://u:p,q@h2:5673/v?heartbeat=9",
            "amqp://u:p,q@h3/v?heartbeat=9",
        ),
    ),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_value_is_taken(key: str, text: str, value: object) -> None:
    parsed = SETTINGS[key].kind.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


BAD = {
    "smtp-maxsize": ["0", "-1", "1TB", "MB", "1,5MB", "0x10", "1e3", "٣", "1K", "9" * 30],
    "smtp-timeout": ["0", "-1", "5d", "inf", "nan", "1h30m", "0ms", "999999999999h"],
    "smtp-grace": ["-1", "now"],
    "smtp-received": ["2", "ja", "truefalse"],
    "smtp-port": ["65536", "-1", "25;26", "26-25", "0-3", "25,", "smtp", "25-", "2 5", "٢٥"],
    "smtp-ip": ["localhost", "1.2.3", "1.2.3.4/32", "1.2.3.4,5.6.7.8", "::1%", ";"],
    "smtp-range": [
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "example.com",
        "::/129",
        "1.2.3.4,::1",
        " ; ",
    ],
    "smtp-connections": ["0", "-1", "1.5", "many", "9" * 12],
    "smtp-connections-per-ip": ["-1"],
    "smtp-threads": ["0", "all", "1025"],
    "smtp-extract": ["maybe"],
    "smtp-bare-newline": ["normalise", "strict"],
    "smtp-tls-minimum": ["1.1", "TLSv1.2"],
    "rabbitmq-encoding": ["deflate"],
    "rabbitmq-maxpriority": ["256", "-1"],
    "rabbitmq-outbox": ["x" * 256, "ü" * 128, "a\nb"],
    "smtp-hostname": ["mx one", "mx\r\n250", "bücher.example", "a/b"],
    "smtp-username": ["a\0b", "a\x7f", "a\udcff"],
    "log-level": ["trace"],
    "metrics-address": ["9090", "localhost:9090", "::1:9090", "1.2.3.4:99999", "1.2.3.4:"],
    "rabbitmq-address": [
        "localhost",
        "http://localhost/",
        "amqp://",
        "amqp:///v",
        "amqp://h:0/",
        "amqp://h:99999/",
        "amqp://h:port/",
        "amqp://h1;/v",
        "amqp://h1,h2/v",
        "amqp://u:p@h 1/",
        "amqp://h/#x",
        "amqp://[::1/",
        "amqp://u:p@h/\n",
        "amqp://u:pa/ss@h/",
        "amqp://h/,none",
    ],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key in BAD for text in BAD[key]])
def test_value_is_refused_with_what_was_expected(key: str, text: str) -> None:
    kind = SETTINGS[key].kind
    with pytest.raises(ValueError, match=f"^{re.escape(kind.expected)}$"):
        kind.parse(text)


def test_auto_is_a_process_for_each_cpu() -> None:
    assert SETTINGS["smtp-threads"].kind.parse("Auto") >= 1


@given(st.integers(1, 1 << 60))
def test_sizes_survive_writing(octets: int) -> None:
    assert values.SIZE.parse(values.SIZE.write(octets)) == octets


@given(st.floats(0.001, 1e9).map(lambda seconds: round(seconds, 6)))
def test_durations_survive_writing(seconds: float) -> None:
    assert values.DURATION.parse(values.DURATION.write(seconds)) == seconds


@given(st.lists(st.integers(1, 65535), unique=True).map(tuple))
def test_ports_survive_writing(ports: tuple[int, ...]) -> None:
    assert values.PORTS.parse(values.PORTS.write(ports)) == ports


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="2000::/3"))


@given(st.lists(ADDRESSES, min_size=1))
def test_addresses_and_networks_survive_writing(addresses: list[object]) -> None:
    texts = tuple(map(str, addresses))
    assert values.ADDRESSES.parse(values.ADDRESSES.write(texts)) == texts
    networks = tuple(ip_network(text) for text in texts)
    assert values.NETWORKS.parse(values.NETWORKS.write(networks)) == networks


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_every_value_is_written_as_text_that_means_the_same(
    key: str, text: str, value: object
) -> None:
    kind = SETTINGS[key].kind
    if kind is not values.BROKER:
        assert kind.parse(kind.write(value)) == value


PASSWORDS = st.text(string.ascii_letters + string.digits + ":;,?#%!@/ ", min_size=8).map(
    lambda text: "SECRET" + text + "SECRET"
)


@given(PASSWORDS, st.sampled_from(["amqp://", "amqps://", "amq://", ""]), st.booleans())
def test_no_broker_password_is_shown(password: str, scheme: str, other: bool) -> None:
    text = f"{scheme}user:{password}@host:5672/v" + ",amqp://u:SECRET@h2/v" * other
    assert "SECRET" not in values.mask_broker(text)
    assert "host:5672/v" in values.mask_broker(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://u:p@h1;h2:5/v,amqps://u:q@[::1]:5/", "amqp://u:***@h1;h2:5/v,amqps://u:***@[::1]:5/"),
        ("amqp://h:5672/v", "amqp://h:5672/v"),
        ("amqp://[::1]:5672/v", "amqp://[::1]:5672/v"),
        ("amqp://user@h/", "amqp://user@h/"),
        ("amqp://user:hunter2", "amqp://user:***"),
        ("user:hunter2", "user:***"),
        ("none", "none"),
    ],
)  # fmt: skip
def test_broker_address_is_shown_without_password(text: str, shown: str) -> None:
    assert values.mask_broker(text) == shown
