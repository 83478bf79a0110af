"""The AMQP header fingerprint: what it is made of, what counts, and who has none."""

import hashlib
import itertools
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.metrics import Metrics
from fastsmtp.payload import SLICE, Composer
from fastsmtp.peer import Peer, Proxy
from fastsmtp.settings import Settings
from tests.oracle import message, strategies

MARKED = b"Message-ID: <1@example.com>\r\nDate: Mon, 23 Nov 2026 00:12:13 +0000\r\n"

STEPS = pytest.mark.parametrize("steps", [False, True], ids=["at once", "in steps"])


def envelope(sender: str = "s@example.com", *mailboxes: str, **more: Any) -> Envelope:
    made = Envelope(sender, **more)
    made.recipients += [Recipient(each) for each in mailboxes or ("r@example.org",)]
    return made


def peer(address: str = "192.0.2.7", user: str = "") -> Peer:
    made = Peer("192.0.2.1", 25, address, 40112)
    made.user = user
    return made


def fingerprints(
    content: bytes | list[bytes],
    mail: Envelope | None = None,
    client: Peer | None = None,
    steps: bool = False,
    **settings: Any,
) -> list[str]:
    """Of each recipient; the content may be given in pieces."""
    made = Settings(**{"smtp_hostname": "mx", "rabbitmq_fingerprint": True} | settings)
    composer = Composer(made, Availability(1 << 40), Metrics())
    pieces = content if isinstance(content, list) else [content]
    given = mail or envelope(), client or peer(), list(pieces)
    if not steps:
        return [one.fingerprint for one in composer.compose(*given)]
    running = composer.steps(*given)
    while True:
        try:
            next(running)
        except StopIteration as end:
            return [one.fingerprint for one in end.value]


def model(content: bytes, sender: str, mailbox: str, address: str, user: str) -> str:
    """The same, slowly and obviously."""
    fields, _ = message.split_header(content)
    full = {name.lower() for name, value, _ in fields if value.strip(b" \t\r\n")}
    if not {b"message-id", b"date"} <= full:
        return ""
    who = [b"user", user.encode()] if user else [b"address", address.encode()]
    parts = [*who, sender.encode(), content, mailbox.encode()]
    return hashlib.sha256(b"".join(struct.pack(">Q", len(p)) + p for p in parts)).hexdigest()


TAGGED = MARKED + b"X-MQ-Tag: t\r\n\r\nHi\r\n"

VECTORS = [
    (
        ("192.0.2.7", "", "s@example.com", "r@example.org"),
        "b13e542a3acf6782f2f9511a7236d2b15ea6d04aafdb2ea4ec0aff6d15970493",
    ),
    (
        ("192.0.2.7", "me", "s@example.com", "r@example.org"),
        "0ce6b5c87be1bbe0d67800f7eadf881cbe40aad325046afeb1e4617a39dff694",
    ),
    (
        ("2001:db8::7", "bjørn", "", "é@example.org"),
        "7015713f9c3295875e1f051ffad39deac4fe69a1b7581a35280e2d9e19f4438e",
    ),
]
"""(address, user, sender, recipient) of `TAGGED`, with what sha256sum makes of it in a shell."""


@STEPS
@pytest.mark.parametrize(("given", "expected"), VECTORS)
def test_vectors(given: tuple[str, str, str, str], expected: str, steps: bool) -> None:
    address, user, sender, mailbox = given
    found = fingerprints(TAGGED, envelope(sender, mailbox), peer(address, user), steps)
    assert found == [expected]
    assert model(TAGGED, sender, mailbox, address, user) == expected


ODD = st.sampled_from(
    [b"Message-ID", b"message-id ", b"Date", b"DATE", b"Date\t", b"Dat", b"Dates", b"Message-IDs"]
)
VALUE = st.sampled_from(
    [b": x\r\n", b":x", b":\r\n", b": \t\r\n", b":\r\n \r\n", b":\r\n x\r\n", b": \n\r\n"]
)
FIELDS = st.lists(st.builds(bytes.__add__, ODD, VALUE), max_size=5).map(b"".join)
MAILBOX = st.sampled_from(["", "a@example.org", "b@example.org", "é@example.org", "user"])


@given(
    st.booleans(),
    FIELDS,
    strategies.messages(),
    st.tuples(MAILBOX, MAILBOX, MAILBOX),
    st.sampled_from(["192.0.2.7", "2001:db8::7"]),
    st.sampled_from(["", "me", "é", "192.0.2.7"]),
    st.data(),
)
@example(True, b"", b"\r\nHi\r\n", ("", "a@example.org", "b@example.org"), "192.0.2.7", "", None)
def test_it_is_what_the_model_makes_of_it_however_the_content_is_cut(
    marked: bool,
    fields: bytes,
    rest: bytes,
    mailboxes: tuple[str, str, str],
    address: str,
    user: str,
    data: st.DataObject | None,
) -> None:
    content = MARKED * marked + fields + rest
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=4)) if data else []
    pieces = [content[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(content)])]
    sender, *recipients = mailboxes
    expected = [model(content, sender, each, address, user) for each in recipients]
    for steps in (False, True):
        given = envelope(sender, *recipients), peer(address, user)
        assert fingerprints(pieces, *given, steps=steps) == expected


@STEPS
def test_what_may_differ_between_a_mail_and_its_resend_does_not_count(steps: bool) -> None:
    (first,) = fingerprints(TAGGED, steps=steps)
    client = peer()
    client.local_ip, client.local_port, client.remote_port = "192.0.2.99", 587, 1
    client.helo, client.secure, client.tls = "other.example.net", True, "TLSv1.3"
    client.proxy, client.trusted = Proxy("10.0.0.1", 2), True
    mail = envelope(size=9, smtputf8=True, ret="FULL", envid="q2")
    mail.recipients[:] = [
        Recipient("other@example.org"),
        Recipient("r@example.org", "NEVER", "rfc822;o@example.org"),
    ]
    ours = {"smtp_received": True, "smtp_extract": "false", "smtp_hostname": "mx2"}
    _, second = fingerprints(TAGGED, mail, client, steps, **ours)
    assert first == second != ""


@STEPS
def test_every_part_counts_and_none_passes_for_another(steps: bool) -> None:
    given: list[tuple[bytes, Envelope, Peer]] = [
        (TAGGED, envelope(), peer()),
        (TAGGED, envelope("S@example.com"), peer()),
        (TAGGED, envelope(""), peer()),
        (TAGGED, envelope("s@example.com", "r@example.or"), peer()),
        (TAGGED, envelope(), peer("192.0.2.8")),
        (TAGGED, envelope(), peer("192.0.2.8", "192.0.2.7")),  # a user with an address for a name
        (TAGGED, envelope("192.0.2.7s@example.com"), peer(user="me")),
        (TAGGED, envelope(), peer(user="me192.0.2.7")),
        (TAGGED, envelope(), peer(user="me")),
        (TAGGED[:-2], envelope(), peer()),
        (TAGGED.replace(b": t", b": u"), envelope(), peer()),  # of a header that is lifted
        (TAGGED.replace(b"<1@", b"<2@"), envelope(), peer()),
        (TAGGED + b"r@example.org", envelope(), peer()),
    ]
    found = [one for each in given for one in fingerprints(*each, steps=steps)]
    assert len(set(found)) == len(given)
    assert "" not in found
    elsewhere = fingerprints(TAGGED, envelope(), peer("192.0.2.8", "me"), steps)
    assert elsewhere == fingerprints(TAGGED, envelope(), peer(user="me"), steps)


@STEPS
@pytest.mark.parametrize(
    ("content", "has"),
    [
        (MARKED, True),
        (MARKED.lower() + b"\r\n", True),
        (b"Date: a\r\nDate: b\r\nMessage-ID: c\r\nMESSAGE-ID:\r\n d\r\n\r\n", True),
        (b"Date:\r\nDate: b\r\nMessage-ID:\r\n \r\nMessage-ID: c", True),
        (MARKED.replace(b"Date", b"Resent-Date"), False),
        (MARKED.replace(b"Message-ID", b"X-MQ-Message-ID"), False),
        (b"Date:\r\nMessage-ID: c\r\n\r\n", False),
        (b"Date: b\r\nMessage-ID: \r\n\t \r\n\r\n", False),
        (b"Date: a\r\n\r\nMessage-ID: b\r\n", False),
        (b"\r\n" + MARKED, False),
        (b"", False),
    ],
)
def test_who_has_one(content: bytes, has: bool, steps: bool) -> None:
    (found,) = fingerprints(content, steps=steps)
    assert bool(found) == has
    assert fingerprints(content, steps=steps, rabbitmq_fingerprint=False) == [""]


def test_a_large_message_is_hashed_in_steps() -> None:
    content = MARKED + b"\r\n" + b"x" * (5 * SLICE)
    pieces = [content[at : at + 100_003] for at in range(0, len(content), 100_003)]
    expected = model(content, "s@example.com", "r@example.org", "192.0.2.7", "")
    assert fingerprints(pieces, steps=True) == [expected]
    counts = []
    for wanted in (False, True):
        settings = Settings(smtp_hostname="mx", rabbitmq_fingerprint=wanted)
        composer = Composer(settings, Availability(1 << 40), Metrics())
        counts.append(sum(1 for _ in composer.steps(envelope(), peer(), list(pieces))))
    assert counts[1] == counts[0] + 5  # a turn for others after each slice that is hashed
