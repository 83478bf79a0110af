"""_parser: good lines give what they say, bad ones the mistake that the model sees in them."""

import pytest
from hypothesis import example, given

from fastsmtp._parser import (
    CommandError,
    parse_bdat,
    parse_mail,
    parse_mailbox,
    parse_rcpt,
    split_command,
)
from tests.oracle import commands, strategies

MAIL_ERRORS = {
    "syntax": commands.BAD_ARGUMENT,
    "mailbox": commands.BAD_SENDER,
    "utf8": commands.NEEDS_SMTPUTF8,
    "parameter": commands.UNKNOWN_PARAMETER,
}
RCPT_ERRORS = MAIL_ERRORS | {"mailbox": commands.BAD_RECIPIENT}


def argument(line: bytes) -> bytes:
    return split_command(line)[1]


@pytest.mark.parametrize(
    ("line", "verb", "rest"),
    [
        (b"NOOP", b"NOOP", b""),
        (b"noop", b"NOOP", b""),
        (b"RSET   ", b"RSET", b""),
        (b"Mail  FROM:<a@b>  ", b"MAIL", b"FROM:<a@b>"),
        (b"", b"", b""),
        (b" NOOP", b"", b"NOOP"),
        (b"a\tb c", b"A\tB", b"c"),
    ],
)
def test_a_line_is_a_verb_in_upper_case_and_an_argument(line, verb, rest):
    assert split_command(line) == (verb, rest)


@pytest.mark.parametrize(
    ("path", "mailbox"),
    [
        (b"<a@example.org>", "a@example.org"),
        (b"a@example.org", "a@example.org"),
        (b"<>", ""),
        (b"<@one.example,@[1.2.3.4]:a@example.org>", "a@example.org"),
        (b'<"a b>"@example.org>', '"a b>"@example.org'),
        (b"<.a..b.@x_y.example>", ".a..b.@x_y.example"),
        (b"<a@[IPv6:::1]>", "a@[IPv6:::1]"),
        (b"<a@[0.9.10.255]>", "a@[0.9.10.255]"),
        (b"<a@[192.168.001.010]>", "a@[192.168.001.010]"),
    ],
)
def test_a_sender_is_what_stands_in_the_path(path, mailbox):
    assert parse_mail(b"FROM: " + path).sender == mailbox


@pytest.mark.parametrize(
    "literal",
    [
        *("999.1.1.1", "1.1.1.256", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3"),
        *("1.2.3.0004", "1.2.3.-4", "1.2.3.4a", "1,2,3,4", "example.org", "1", "0x1.2.3.4"),
    ],
)
def test_a_literal_without_a_tag_is_an_ipv4_address(literal):
    for path in (f"<a@[{literal}]>", f"a@[{literal}]", f"<@[{literal}]:a@b>"):
        with pytest.raises(CommandError) as caught:
            parse_rcpt(b"TO:" + path.encode(), False)
        assert caught.value.problem == "mailbox"
    with pytest.raises(CommandError):
        parse_mailbox(f"<a@[{literal}]>".encode())


HIDDEN = [
    *range(0x80, 0xA0),
    *(0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]


def test_an_address_has_no_characters_that_hide():
    """Every code point: U+200C, U+200D and all others that are not named pass."""
    refused = []
    for code in range(0x80, 0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        try:
            parse_rcpt(b"TO:<a%b@b>" % chr(code).encode(), True)
        except CommandError as error:
            assert error.problem == "mailbox"
            refused.append(code)
    assert refused == sorted(HIDDEN)


@pytest.mark.parametrize("code", HIDDEN)
@pytest.mark.parametrize("form", ["{}a@b", "a@{}b", "a@b{}", '"{}"@b', "é{}@b"])
def test_no_part_of_an_address_hides(code, form):
    mailbox = form.format(chr(code)).encode()
    for parse in (
        lambda: parse_mail(b"FROM:<" + mailbox + b"> SMTPUTF8"),
        lambda: parse_mail(b"FROM:" + mailbox + b" SMTPUTF8"),
        lambda: parse_rcpt(b"TO:<" + mailbox + b">", True),
        lambda: parse_mailbox(mailbox),
    ):
        with pytest.raises(CommandError) as caught:
            parse()
        assert caught.value.problem == "mailbox"


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (b"", "syntax"),
        (b"<a@b", "syntax"),
        (b"<a@b>SIZE=1", "syntax"),
        (b"<a b@c>", "mailbox"),
        (b"<a>", "mailbox"),
        (b"<postmaster>", "mailbox"),
        (b"<a@-b>", "mailbox"),
        (b"<a@b.>", "mailbox"),
        (b"<a@" + b"x" * 64 + b">", "mailbox"),
        ("<ä@b>".encode(), "utf8"),
        (b"<\xe4@b> SMTPUTF8", "utf8"),
        (b"<a@b> FOO=1", "parameter"),
        (b"<a@b> SIZE=1 SIZE=1", "syntax"),
        (b"<a@b> SIZE=123456789012345678901", "syntax"),
        (b"<a@b> BODY=BINARYMIME", "syntax"),
        (b"<a@b> ENVID=+0a", "syntax"),
        (b"<a@b> RET=some", "syntax"),
    ],
)
def test_a_bad_mail_says_what_is_bad(rest, problem):
    with pytest.raises(CommandError) as caught:
        parse_mail(b"FROM:" + rest)
    assert caught.value.problem == problem


def test_the_parameters_of_mail_are_read():
    mail = parse_mail(b"FROM:<a@b> size=99999999999999999999 body=8bitmime RET=hdrs ENVID=a+2Bb")
    assert (mail.size, mail.eight_bit, mail.ret, mail.envid) == (10**20 - 1, True, "HDRS", "a+b")
    assert not mail.smtputf8
    assert parse_mail("FROM:<ä@ö> SMTPUTF8".encode()).sender == "ä@ö"


def test_the_parameters_of_rcpt_are_read():
    rcpt = parse_rcpt(b"TO:<a@b> NOTIFY=success,delay ORCPT=rfc822;x+40y", False)
    assert (rcpt.notify, rcpt.orcpt) == ("SUCCESS,DELAY", "rfc822;x@y")


@pytest.mark.parametrize(
    ("given", "orcpt"),
    [
        ("utf-8;ren\\x{E9}@b\\x{FC}cher.example", "utf-8;rené@bücher.example"),
        ("UTF-8;\\x{1f600}@b", "UTF-8;😀@b"),
        ("utf-8;a\\x{2B}b\\x{3D}\\x{5C}\\x{20}c@d", "utf-8;a+b=\\ c@d"),
        ("utf-8;\\x{5C}x{41}@b", "utf-8;\\x{41}@b"),
        ("utf-8;a+2Bb+c@d", "utf-8;a+2Bb+c@d"),
        ("utf-8;a\\b@c", "utf-8;a\\b@c"),
        ("utf-8;\\x{200C}\\x{200D}@b", "utf-8;\u200c\u200d@b"),
        ("rfc822;a\\x{E9}+2B@b", "rfc822;a\\x{E9}+@b"),
    ],
)
def test_orcpt_of_the_type_utf_8_is_decoded(given, orcpt):
    """RFC 6533 §3: also where MAIL had no SMTPUTF8."""
    for smtputf8 in (False, True):
        assert parse_rcpt(b"TO:<a@b> ORCPT=" + given.encode(), smtputf8).orcpt == orcpt


def test_orcpt_of_the_type_utf_8_is_eight_bit_only_with_smtputf8():
    given = "TO:<a@b> ORCPT=utf-8;é\\x{E9}@b".encode()
    assert parse_rcpt(given, True).orcpt == "utf-8;éé@b"
    with pytest.raises(CommandError):
        parse_rcpt(given, False)


@pytest.mark.parametrize(
    "given",
    [
        *("utf-8;\\x{E9", "utf-8;\\x{", "utf-8;\\x{}", "utf-8;\\x{G0}", "utf-8;\\x{ E9}"),
        *("utf-8;\\x{0_9}", "utf-8;\\x{٤١}", "utf-8;\\x{110000}", "utf-8;\\x{FFFFFF}"),
        *("utf-8;\\x{D800}", "utf-8;\\x{DFFF}", "utf-8;\\x{D83D}\\x{DE00}", "utf-8;\\x{00000E9}"),
        *("utf-8;\\x{00}", "utf-8;\\x{0D}", "utf-8;\\x{0A}", "utf-8;\\x{7F}", "utf-8;\\x{1F}"),
        *(
            "rfc822;+00",
            "rfc822;+7f",
            "rfc822;+1f",
            "rfc822;+C2+85",
            "rfc822;+85",
            "rfc822;+E2+80+AE",
        ),
        *(f"utf-8;\\x{{{code:X}}}" for code in HIDDEN),
        *(f"utf-8;{chr(code)}" for code in HIDDEN),
        *(f"rfc822;{chr(code)}" for code in HIDDEN),
    ],
)
def test_orcpt_holds_no_control_and_nothing_half(given):
    for smtputf8 in (False, True):
        with pytest.raises(CommandError) as caught:
            parse_rcpt(b"TO:<a@b> ORCPT=" + given.encode(), smtputf8)
        assert caught.value.problem == "syntax"


def test_postmaster_needs_no_domain():
    assert parse_rcpt(b"TO:<pOstMaster>", False).mailbox == "pOstMaster"
    with pytest.raises(CommandError):
        parse_rcpt(b"TO:<postmasters>", False)


@pytest.mark.parametrize(
    ("text", "size", "last"),
    [
        (b"0", 0, False),
        (b"12 LAST", 12, True),
        (b"9" * 20, 10**20 - 1, False),
        (b"1 last", 1, True),
    ],
)
def test_bdat_has_a_size_and_may_be_the_last(text, size, last):
    assert parse_bdat(text) == (size, last)


@pytest.mark.parametrize("text", [b"", b"LAST", b"-1", b"+1", b"1 FIRST", b"1\tLAST", b"9" * 21])
def test_bdat_without_a_size_is_an_error(text):
    with pytest.raises(CommandError):
        parse_bdat(text)


@pytest.mark.parametrize(
    ("text", "mailbox"), [("", ""), ("<>", ""), ("<a@b>", "a@b"), ("ä@b", "ä@b")]
)
def test_a_mailbox_alone_may_be_bare_or_empty(text, mailbox):
    assert parse_mailbox(text.encode()) == mailbox


@pytest.mark.parametrize("text", [b"a", b"<a@b", b"a@b x", b"<a@b> x", b"\xe4@b", b" ", b"<"])
def test_what_is_no_mailbox_is_an_error(text):
    with pytest.raises(CommandError):
        parse_mailbox(text)


@given(strategies.mail_lines())
@example(b"MAIL FROM:<a@b>x y>")
def test_mail_agrees_with_the_model(line):
    expected = commands.mail(line)
    if b"\r" in line or b"\0" in line:
        return  # the session answers these before the parser sees them
    try:
        mail = parse_mail(argument(line))
    except CommandError as error:
        assert MAIL_ERRORS[error.problem] in expected.errors
        return
    assert not expected.errors
    params = expected.params
    assert mail.sender == expected.mailbox
    assert mail.size == params.get("size", 0)
    assert mail.eight_bit == (params.get("body") == "8BITMIME")
    assert mail.smtputf8 == ("smtputf8" in params)
    assert (mail.ret, mail.envid) == (params.get("ret"), params.get("envid"))


@pytest.mark.parametrize("smtputf8", [False, True])
@given(line=strategies.rcpt_lines())
@example(line=b"RCPT TO:<a@b> ORCPT=utf-8;\xe9")
def test_rcpt_agrees_with_the_model(smtputf8, line):
    expected = commands.rcpt(line, smtputf8)
    if b"\r" in line or b"\0" in line:
        return
    try:
        rcpt = parse_rcpt(argument(line), smtputf8)
    except CommandError as error:
        assert RCPT_ERRORS[error.problem] in expected.errors
        return
    assert not expected.errors
    assert rcpt.mailbox == expected.mailbox
    assert (rcpt.notify, rcpt.orcpt) == (
        expected.params.get("notify"),
        expected.params.get("orcpt"),
    )
