"""Hypothesis strategies for content, headers and command lines: mostly nearly right."""

from hypothesis import strategies as st

CONTENT_PIECES = [
    b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"\r\n.\r\n", b" ", b"\t", b":", b"\0", b"x", b"word",
    b"\xc3\xa9", b"\xe9", b"\xff", b'"', b"\\", b"Subject: s\r\n", b"X-MQ-Tag: t\r\n",
]  # fmt: skip
NAMES = [
    "envelope", "ip", "tag", "pool", "delayed", "maxdelivertime", "maxattempts", "priority",
    "retries", "inlinecss", "keepmime", "results-queue", "failure-queue", "success-queue",
    "retry-queue", "dsn-queue", "smarthost-hostname", "smarthost-name", "smarthost-port",
    "smarthost-username", "smarthost-password", "dsn-notify", "dsn-ret", "dsn-orcpt",
    "dsn-envid", "dsn-envelope", "dsn-mta", "custom", "other", "custom-queue", "smarthost-x",
    "message-id", "received",
    "hostname", "recipient", "mime", "mime-encoding", "connection", "key", "checks", "ips",
    "tags", "queues", "smarthost", "dsn", "smtputf8", "domain", "forcedip", "seen", "results",
    "http", "spool", "cli", "nextattempt", "dkim", "data", "headers", "mime-size", "mime-sha256",
    "key-encoding", "traceparent", "fingerprint", "__proto__", "constructor", "prototype",
]  # fmt: skip
VALUES = [
    b"", b"1", b"0", b"-1", b"+7", b"007", b"255", b"256", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"1_0", b"1.0",
    b"0x1", b"\xd9\xa1", b"-0", b"0" * 5000 + b"7", b"9" * 5000,
    b"true", b"FALSE", b"Yes", b"no", b"ON", b"off", b"maybe",
    b"2026-11-23 00:12:13", b"2026-02-29 00:00:00", b"2028-02-29 00:00:00", b"2026-1-1 0:0:0",
    b"0000-01-01 00:00:00", b"2026-01-01 24:00:00", b"2026-01-01 00:00:60",
    b"2026-01-01T00:00:00", b"300,600,3600", b"300, 600", b"300,,600", b",", b"1 2", b"192.0.2.1",
    b"a@example.org", b"<a@example.org>", b"<>", b"<", b"not valid", b'"q q"@[192.0.2.1]',
    b"never", b"success,delay", b"full", b"rfc822;a@example.org", b"caf\xc3\xa9", b"caf\xe9",
    b"a\0b", b'q"u\\o', b"in b\xc3\xa9@example.org", b"b\xe9@example.org",
    "<a\u200b@example.org>".encode(), "a\u200d@example.org".encode(),
]  # fmt: skip


def newline_soup(max_size: int = 40) -> st.SearchStrategy[bytes]:
    """Any bytes, rich in line ends and dots: what may come by BDAT."""
    piece = st.one_of(st.sampled_from(CONTENT_PIECES), st.binary(max_size=4))
    return st.lists(piece, max_size=max_size).map(b"".join)


def lines(max_size: int = 40) -> st.SearchStrategy[bytes]:
    """The same, ending in CRLF or empty: what may come by DATA."""
    return newline_soup(max_size).map(lambda c: c + b"\r\n" if c[-2:] not in (b"\r\n", b"") else c)


def wire(max_size: int = 40) -> st.SearchStrategy[bytes]:
    """Bytes after 354, as a hostile client sends them: neither stuffed nor sure to end."""
    return st.builds(bytes.__add__, newline_soup(max_size), st.sampled_from([b"", b"\r\n.\r\n"]))


def values() -> st.SearchStrategy[bytes]:
    """The value of a field, folded now and then."""
    free = st.binary(max_size=12).map(lambda v: v.replace(b"\r", b"?").replace(b"\n", b"?"))
    fold = st.sampled_from([b"", b"", b"", b"\r\n ", b"\r\n\t \t", b"\r\n \r\n  "])
    value = st.one_of(st.sampled_from(VALUES), st.sampled_from(VALUES), free)
    return st.builds(
        lambda a, b, c, d: a + b + c + d, fold, value, fold, st.sampled_from([b"", b"z"])
    )


def fields() -> st.SearchStrategy[bytes]:
    """One field, most of them x-mq-*, in any case and with white space before the colon."""
    named = st.sampled_from(NAMES).map(lambda name: b"X-MQ-" + name.encode())
    name = st.one_of(
        named, named, st.sampled_from([b"Subject", b"Received", b"X-MQ-", b"X-MQ", b'x-mq-"\\'])
    )
    cased = st.builds(lambda n, up: n.upper() if up else n.lower(), name, st.booleans())
    colon = st.sampled_from([b":", b": ", b" :", b"\t : ", b":\t"])
    return st.builds(lambda n, c, v: n + c + v + b"\r\n", cased, colon, values())


def messages() -> st.SearchStrategy[bytes]:
    """A header block, broken now and then, and a body."""
    broken = st.sampled_from([b"no field\r\n", b" leading\r\n", b": no name\r\n", b"\r\n"])
    line = st.one_of(fields(), fields(), fields(), fields(), broken)
    body = st.one_of(st.just(b""), lines(8).map(lambda text: b"\r\n" + text))
    return st.builds(lambda head, tail: b"".join(head) + tail, st.lists(line, max_size=12), body)


LOCALS = [
    b"a", b"a.b", b".a", b"a..b", b"a.", b"o'x+y=z", b'"q"', b'"q q"', b'"\\"\\\\"', b'""',
    b'"a@b"', b'"a>b"', b'"a> b"', b'"a', b'a"b"', b"", b"a b", b"\xc3\xa9", b'"\xc3\xa9"', b"\xe9",
    b"a\x01", b"a\x7f", b"a,b", b"a(c)", b"x" * 300, b"Postmaster", b"@hop.example:a",
    b"@h1.example,@h2.example:a", b"@hop.example,:a",
]  # fmt: skip
DOMAINS = [
    b"example.org", b"EXAMPLE.org", b"a", b"a_b.c", b"_x.y", b"-a.b", b"a-.b", b"a--b.c", b"a..b",
    b".a", b"a.", b"", b"1.2.3.4", b"[1.2.3.4]", b"[255.099.0.00]",
    b"[256.1.1.1]", b"[1.2.3]", b"[1.2.3.4.5]", b"[1.2.3.0004]", b"[1..3.4]", b"[1.2.3.4 ]",
    b"[a.b.c.d]", b"[IPv6:::1]", b"[x:999.1.1.1]", b"[]", b"[a", b"a]", b"[a b]",
    b"[a[b]", b"[a\\b]", b"b\xc3\xbccher.example", b"b\xfc.example", "\ufeffa.b".encode(),
    "a.\u2029b".encode(), "a\u200d.b".encode(), b"x" * 63 + b".org",
    b"x" * 64 + b".org", b".".join([b"x" * 63] * 4), b".".join([b"x" * 63] * 3 + [b"x" * 62]),
    b"a b", b"a<b", b"a@b",
]  # fmt: skip
MAIL_PARAMS = [
    b"SIZE=1", b"size=12345678901234567890", b"SIZE=123456789012345678901", b"SIZE=", b"SIZE",
    b"SIZE=-1", b"SIZE=1x", b"BODY=7BIT", b"Body=8bitmime", b"BODY=BINARYMIME", b"BODY=x", b"BODY",
    b"SMTPUTF8", b"smtputf8", b"SMTPUTF8=1", b"SMTPUTF8=", b"RET=full", b"RET=HDRS", b"RET=x",
    b"ENVID=a+2Bb", b"ENVID=a+2b", b"ENVID=+2", b"ENVID=+0A", b"ENVID=+E9", b"ENVID=+80",
    b"ENVID=+7F", b"ENVID=" + b"e" * 100,
    b"ENVID=" + b"e" * 101, b"ENVID=a=b", b"AUTH=<>", b"AUTH=a+40b", b"AUTH=+4", b"AUTH=", b"FOO",
    b"FOO=bar", b"FOO=", b"=x", b"-x=y", b"F_O=x", b"X-Y=z", b"NOTIFY=NEVER", b"\xc3\xa9=x",
    b"SIZE=\xc3\xa9", b"x\x01=1",
]  # fmt: skip
RCPT_PARAMS = [
    b"NOTIFY=NEVER", b"notify=success", b"NOTIFY=SUCCESS,failure,DELAY", b"NOTIFY=SUCCESS,SUCCESS",
    b"NOTIFY=NEVER,DELAY", b"NOTIFY=", b"NOTIFY", b"NOTIFY=,DELAY", b"NOTIFY=x",
    b"ORCPT=rfc822;a+40b", b"ORCPT=rfc822;+0d", b"ORCPT=rfc822", b"ORCPT=;a", b"ORCPT=",
    b"ORCPT=rfc822;+4", b"orcpt=RFC822;a@b+2B", b"ORCPT=rfc822;" + b"a" * 493,
    b"ORCPT=rfc822;" + b"a" * 494, b"ORCPT=utf-8;\xc3\xa9", b"ORCPT=utf-8;\xe9", b"ORCPT",
    b"ORCPT=utf-8;ren\\x{E9}@b+2B", b"orcpt=UTF-8;\\x{1f600}\\x{3D}\\x{5C}x{41}",
    b"ORCPT=utf-8;\\a", b"ORCPT=utf-8;\\x{E9", b"ORCPT=utf-8;\\x{}", b"ORCPT=utf-8;\\x{9}",
    b"ORCPT=utf-8;\\x{0D}", b"ORCPT=utf-8;\\x{D800}", b"ORCPT=utf-8;\\x{110000}",
    b"ORCPT=utf-8;\\x{0000041}", b"ORCPT=utf-8;\\x{+A}", b"ORCPT=utf-8;\\x{200B}",
    b"ORCPT=utf-8;\\x{200C}", "ORCPT=utf-8;\\x{\u0664\u0661}".encode(),
    "ORCPT=utf-8;\u200b".encode(), b"ORCPT=rfc822;+E9", b"ORCPT=rfc822;+80",
    b"ORCPT=rfc822;\\x{0D}", b"ORCPT=rfc822;+E2+80+AE",
    b"SIZE=1", b"FOO", b"FOO=bar", b"=", b"RET=FULL",
]  # fmt: skip


def _line(verb: bytes, word: bytes, params: list[bytes]) -> st.SearchStrategy[bytes]:
    mailbox = st.one_of(
        st.builds(lambda a, b: a + b"@" + b, st.sampled_from(LOCALS), st.sampled_from(DOMAINS)),
        st.sampled_from([b"a@example.org", b"", b"Postmaster", b"postmaster", b"a", b"@", b"<>"]),
        st.binary(max_size=8).map(lambda v: v.replace(b"\n", b"?")),
    )
    path = st.builds(
        lambda box, form: form.replace(b"x", box),
        mailbox,
        st.sampled_from([b"<x>", b"<x>", b"<x>", b"<x>", b"<x", b"< x>", b"<x>>", b"x>"]),
    )
    start = st.sampled_from(
        [verb + b" " + word, (verb + b"  " + word).lower(), verb, verb + b" XX:"]
    )
    spaced = st.builds(
        lambda gap, param: gap + param,
        st.sampled_from([b" ", b" ", b" ", b"   ", b""]),
        st.one_of(st.sampled_from(params), st.sampled_from(params), st.binary(max_size=5)),
    )
    return st.builds(
        lambda begin, gap, where, tail, end: begin + gap + where + b"".join(tail) + end,
        st.one_of(st.just(verb + b" " + word), start),
        st.sampled_from([b"", b"", b" ", b"   "]),
        path,
        st.lists(spaced, max_size=3),
        st.sampled_from([b"", b"", b" ", b"  "]),
    ).map(lambda line: line.replace(b"\n", b"?"))


def mail_lines() -> st.SearchStrategy[bytes]:
    """MAIL lines without their line end: good, nearly good, hostile."""
    return _line(b"MAIL", b"FROM:", MAIL_PARAMS)


def rcpt_lines() -> st.SearchStrategy[bytes]:
    """RCPT lines likewise."""
    return _line(b"RCPT", b"TO:", RCPT_PARAMS)
