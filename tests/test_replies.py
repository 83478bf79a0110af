import re

from fastsmtp import replies
from fastsmtp.replies import MAX_LINE, Reply


def test_every_reply_is_well_formed_and_has_its_enhanced_code():
    made = [each for each in vars(replies).values() if isinstance(each, Reply)]
    assert len(made) > 30
    for reply in made:
        code, enhanced, _ = re.fullmatch(
            rb"(\d{3})(?: (\d\.\d\.\d{1,2}))? ([ -~]+)\r\n", reply.wire
        ).groups()
        assert (enhanced is None) == (code == b"354")
        assert enhanced is None or enhanced[:1] == code[:1]


def test_the_250_names_every_identifier():
    reply = replies.queued([("01A", "a@example.org"), ("01B", "b@example.org")])
    assert reply.wire == (
        b"250-2.0.0 Ok, your message has been queued using the following identifiers:\r\n"
        b"250-2.0.0 01A for a@example.org\r\n"
        b"250 2.0.0 01B for b@example.org\r\n"
    )


def test_many_identifiers_stay_under_2000_octets():
    for count in (50, 100, 1_000_000):
        stored = [("01K9X7" * 5, f"rcpt{n:06}@example.org") for n in range(count)]
        wire = replies.queued(stored).wire
        assert len(wire) < 2000
        lines = wire.decode().split("\r\n")[:-1]
        named = len(lines) - 2
        assert lines[-1] == f"250 2.0.0 and {count - named} more"
        assert len(wire) > 1850


def test_what_a_client_sent_is_made_harmless():
    hostile = "x\r\n250 forged\0\x1b[31m\u202e@" + "ü" * 5000
    reply = replies.queued([("01A", hostile)])
    lines = reply.wire.split(b"\r\n")
    assert len(lines) == 3
    assert all(len(line) <= MAX_LINE - 2 for line in lines)
    assert lines[1].decode().startswith("250 2.0.0 01A for x??250 forged??[31m?@ü")


def test_long_lines_are_cut_at_a_character():
    reply = Reply(250, "2.0.0", "é" * 600)
    assert len(reply.wire) <= MAX_LINE
    assert reply.wire.decode().rstrip("\r\n").endswith("é")
