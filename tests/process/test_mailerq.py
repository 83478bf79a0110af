"""Every key of MailerQ's files: taken, taken under another name, or named in the right warning."""

import getpass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp import values
from fastsmtp.process import config, mailerq
from fastsmtp.settings import SETTINGS, Settings, attribute
from tests.support import certificates
from tests.support.daemon import ROOT
from tests.support.sources import QUIET, Sources

KEYS = (ROOT / "tests" / "mailerq" / "keys.txt").read_text().split()

VALUES = {
    "rabbitmq-address": "amqp://guest:guest@localhost/",
    "rabbitmq-declare": "false",
    "rabbitmq-durable": "0",
    "rabbitmq-encoding": "gzip",
    "rabbitmq-exchange": "mailerq",
    "rabbitmq-host": "localhost",
    "rabbitmq-inbox": "inbox",
    "rabbitmq-lazy": "1",
    "rabbitmq-maxpriority": "4",
    "rabbitmq-outbox": "mails",
    "rabbitmq-password": "guest",
    "rabbitmq-persistent": "true",
    "rabbitmq-publishers": "2",
    "rabbitmq-throttle": "100",
    "rabbitmq-user": "guest",
    "rabbitmq-verify": "false",
    "rabbitmq-vhost": "/",
    "smtp-auth": "hardcoded://user:password",
    "smtp-ciphers": "!aNULL:!eNULL:!LOW:!SSLv2:!EXPORT:!EXPORT56:FIPS:MEDIUM:HIGH:@STRENGTH",
    "smtp-connections": "100",
    "smtp-connections-in": "50",
    "smtp-default-ips": "192.0.2.1;192.0.2.2",
    "smtp-defaultip": "192.0.2.1",
    "smtp-defaultips": "192.0.2.1; 192.0.2.2; 192.0.2.3",
    "smtp-extract": "false",
    "smtp-ip": "127.0.0.2",
    "smtp-mappable-ips": "192.0.2.0/24",
    "smtp-maxsize": "50MB",
    "smtp-password": "password",
    "smtp-port": "25,2525,1024-1026",
    "smtp-proxy": "10.0.0.1",
    "smtp-range": "192.0.2.0/24;10.0.0.0/8",
    "smtp-ranges": "192.0.2.0/24;10.0.0.0/8",
    "smtp-secure-port": "465",
    "smtp-secureport": "465",
    "smtp-threads": "2",
    "smtp-timeout": "60",
    "smtp-unmappable-ips": "192.0.2.1",
    "smtp-username": "user",
    "user": getpass.getuser(),
}
"""A value of MailerQ's documentation for every key whose value is taken; paths aside."""

NEEDED = {
    "smtp-auth": "smtp-insecure-auth: true",
    "smtp-password": "smtp-username: user\nsmtp-insecure-auth: true",
    "smtp-username": "smtp-password: password\nsmtp-insecure-auth: true",
}
"""What must stand beside a key, for there to be no error of another kind."""

SENDING = "it concerns sending mail, which fastsmtp does not do"
SAID = {
    "smtp-check": "not checked for SPF, DKIM, DMARC or spam",
    "spamassassin-": "not checked for SPF, DKIM, DMARC or spam",
    "smtp-auth-results": "no Authentication-Results field is added",
    "smtp-authentication-results": "no Authentication-Results field is added",
    "smtp-protection": "clients are not refused for suspected abuse",
    "smtp-validate-address": "neither stricter nor looser",
    "dsn-advertise": "the DSN extension is always offered",
    "rabbitmq-local": "is published to rabbitmq-inbox like all other mail",
    "rabbitmq-reports": "are not told from other mail",
    "rabbitmq-refused": "refused mail is published nowhere",
    "rabbitmq-mirror": "no copy of a message is published",
    "error-exchange": "no message is published to an error exchange",
    "error-routingkey": "no message is published to an error exchange",
    "storage-reschedule": SENDING,
    "storage-": "it travels in the message",
    "spool-": "files in a folder are not taken in",
    "plugin-directory": "plugins are not loaded",
    "received-bin-log-file": "one text file alone, which received-log names",
    "received-log-directory": "one text file alone, which received-log names",
    "received-log-format": "one text file alone, which received-log names",
    "received-log-prefix": "one text file alone, which received-log names",
    "received-log-": "neither rotated nor compressed",
    "www-": "no management console",
    "render-useragent": "no management console",
    "cluster-": "no cluster",
    "database": "no database",
    "application-log": "the log goes to standard error",
    "error-log": "the log goes to standard error",
    "heartbeat": "no usage statistics",
    "license": "no license",
    "lock": "no lock file",
    "server-id": "unique without it",
}
"""What must be said about keys that begin so; every other key concerns sending."""


def path_settings(folder: Path) -> dict[str, str]:
    pair = certificates.make(folder)
    return {
        "smtp-certificate": str(pair.certificate),
        "smtp-key": str(pair.key),
        "smtp-privatekey": str(pair.key),
        "received-log-file": str(folder / "received.log"),
    }


def value_and_need(key: str, folder: Path) -> tuple[str, str]:
    paths = path_settings(folder)
    pair = f"smtp-certificate: {paths['smtp-certificate']}"
    if key in ("smtp-key", "smtp-privatekey"):
        return paths[key], pair
    if key == "smtp-certificate":
        return paths[key], f"smtp-key: {paths['smtp-key']}"
    if key in ("smtp-secure-port", "smtp-secureport"):
        return VALUES[key], f"{pair}\nsmtp-key: {paths['smtp-key']}"
    return VALUES.get(key) or paths.get(key, "something"), NEEDED.get(key, "")


def effect(settings: Settings) -> dict[str, object]:
    return {key: getattr(settings, attribute(key)) for key in SETTINGS}


def test_the_list_is_the_one_that_was_promised() -> None:
    assert len(KEYS) == len(set(KEYS)) == 205
    assert set(mailerq.KEYS) | set(SETTINGS) >= set(KEYS)


@pytest.mark.parametrize("source", ["file", "environment", "command line"])
@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_taken_or_warned_of_by_the_right_sentence(
    sources: Sources, tmp_path: Path, key: str, source: str
) -> None:
    text, need = value_and_need(key, tmp_path)
    quiet = "" if key == "smtp-ip" else QUIET
    settings, warnings = sources.load(
        f"{quiet}{need}\n" + (f"{key}: {text}" if source == "file" else ""),
        {f"FASTSMTP_{key.upper().replace('-', '_')}": text} if source == "environment" else {},
        [(key, text)] if source == "command line" else [],
    )
    own = mailerq.ALIASES.get(key, key)
    if own in SETTINGS:
        assert warnings == []
        assert effect(settings)[own] == SETTINGS[own].kind.parse(text)
    elif key in mailerq.PARTS:  # what they make is asserted below
        assert warnings == []
    else:
        said = next((said for start, said in SAID.items() if key.startswith(start)), SENDING)
        [warning] = warnings
        assert warning.startswith(f"{key} of MailerQ is ignored: ")
        assert said in warning
        assert effect(settings) == effect(Settings(smtp_ip=("127.0.0.1",)))


def test_a_whole_file_starts_with_warnings_only(sources: Sources, tmp_path: Path) -> None:
    once = [key for key in KEYS if mailerq.ALIASES.get(key) not in KEYS]
    lines = [f"{key}: {value_and_need(key, tmp_path)[0]}" for key in once]
    settings, warnings = sources.load("\n".join(lines))
    assert settings.rabbitmq_inbox == "inbox"
    assert settings.smtp_connections == 50
    ignored = set(KEYS) - set(SETTINGS) - set(mailerq.ALIASES) - set(mailerq.PARTS)
    assert sorted(line.split()[0] for line in warnings) == sorted(ignored)


def test_a_whole_file_of_empty_values_says_nothing_but_names(sources: Sources) -> None:
    settings, warnings = sources.load("\n".join(f"{key}:" for key in KEYS))
    assert effect(settings) == effect(Settings())
    of_mailerq = [line for line in warnings if "of MailerQ" in line]
    assert of_mailerq
    assert [line for line in of_mailerq if "no meaning" not in line] == []


@pytest.mark.parametrize(
    "address",
    [
        "mongodb://hostname/database/collection",
        "couchbase://password@host1;host2/bucket",
        "sqlite:///path",
        "mysql://user:password@hostname/name",
        "postgresql://user:password@hostname/name",
        "directory:///path?depth=3",
    ],
)
def test_a_store_that_only_mailerq_knows_is_no_error(sources: Sources, address: str) -> None:
    [warning] = sources.warnings(QUIET + f"storage-address: {address}")
    assert warning.startswith("storage-address")
    assert "travels in the message" in warning
    assert "password" not in warning


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("rabbitmq-encoding", "identity", "message bodies are not compressed"),
        ("rabbitmq-publishers", "100", "the default holds"),
        ("rabbitmq-throttle", "0", "the default holds"),
        ("smtp-connections", "0", "the default holds"),
        ("smtp-connections-in", "0", "it sets no limit here, smtp-connections does"),
        ("smtp-maxsize", "0", "the default holds"),
        ("smtp-threads", "256", "the default holds"),
        ("smtp-timeout", "0", "the default holds"),
    ],
)
def test_a_value_that_only_mailerq_knows_is_a_warning(
    sources: Sources, key: str, text: str, said: str
) -> None:
    settings, [warning] = sources.load(QUIET + f"{key}: {text}")
    assert f"config.txt:2: {key}: expected " in warning
    assert warning.endswith(f"found '{text}': {said}")
    assert effect(settings) == effect(Settings(smtp_ip=("127.0.0.1",)))


@pytest.mark.parametrize(
    "line",
    [
        *("smtp-maxsize: big", "smtp-timeout: soon", "smtp-threads: many", "smtp-connections: -1"),
        *("smtp-connections-in: x", "smtp-ranges: everyone", "smtp-secureport: tls"),
        *("smtp-proxy: proxy.example.com", "rabbitmq-durable: perhaps"),
        *("rabbitmq-address: localhost", "rabbitmq-encoding: @/missing/file"),
    ],
)
def test_a_value_that_is_malformed_stays_an_error_of_the_key_that_was_written(
    sources: Sources, line: str
) -> None:
    [error] = sources.errors(QUIET + line)
    assert error.startswith(f"config.txt:2: {line.split(':')[0]}: expected ")


@pytest.mark.parametrize("scheme", ["ldap", "radius", "users", "http", "exec"])
def test_a_scheme_of_authentication_that_we_lack_is_an_error(sources: Sources, scheme: str) -> None:
    [error] = sources.errors(f"smtp-insecure-auth: 1\nsmtp-auth: {scheme}://hunter2@host/x")
    assert error == (
        "config.txt:2: smtp-auth: expected file:///path or hardcoded://user:pass,user2:pass2, "
        f"found {scheme}://…"
    )


def test_a_key_is_named_once(sources: Sources) -> None:
    files = [sources.file(QUIET + "license: x", "a"), sources.file("license: y", "b")]
    assert len(config.load(files, default_file=sources.default)[1]) == 1


def test_an_empty_key_says_nothing_of_what_is_not_done(sources: Sources) -> None:
    assert sources.warnings(QUIET + "smtp-check:") == [
        "smtp-check of MailerQ has no meaning here and is ignored"
    ]


def test_no_value_is_in_a_warning(sources: Sources) -> None:
    passwords = [key for key in mailerq.IGNORED if key.endswith("password")]
    warnings = sources.warnings(QUIET + "\n".join(f"{key}: hunter2" for key in passwords))
    assert len(warnings) == len(passwords) == 4
    assert "hunter2" not in "\n".join(warnings)


ALIASES = {
    "received-log-file": "received-log",
    "smtp-defaultip": "smtp-default-ips",
    "smtp-defaultips": "smtp-default-ips",
    "smtp-privatekey": "smtp-key",
    "smtp-ranges": "smtp-range",
    "smtp-secureport": "smtp-secure-port",
}


def test_aliases_are_those_promised() -> None:
    assert mailerq.ALIASES == ALIASES


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_setting_itself(sources: Sources, tmp_path: Path, alias: str) -> None:
    text, need = value_and_need(alias, tmp_path)
    held = sources.file(f"{text}\n", "held")
    expected = effect(sources.load(f"{QUIET}{need}\n{ALIASES[alias]}: {text}")[0])
    for written in (text, f"@{held}"):
        assert effect(sources.load(f"{QUIET}{need}\n{alias}: {written}")[0]) == expected


def test_an_alias_closes_the_door(sources: Sources) -> None:
    settings, warnings = sources.load("smtp-ranges: 10.0.0.0/8")
    assert settings.smtp_range == values.NETWORKS.parse("10.0.0.0/8")
    assert warnings == []


@pytest.mark.parametrize(
    ("first", "second"), [("smtp-range", "smtp-ranges"), ("smtp-ranges", "smtp-range")]
)
def test_an_alias_and_the_setting_in_one_source_are_the_setting_twice(
    sources: Sources, first: str, second: str
) -> None:
    settings, warnings = sources.load(f"{first}: 10.0.0.0/8\n{second}: 192.0.2.0/24")
    assert settings.smtp_range == values.NETWORKS.parse("192.0.2.0/24")
    [warning] = warnings
    assert warning.endswith(f"config.txt:2: {second} ({first}) is given twice, this value holds")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("full", ["smtp-range", "smtp-ranges"])
def test_an_empty_name_beside_another_opens_no_door(
    sources: Sources, full: str, first: bool
) -> None:
    [empty] = {"smtp-range", "smtp-ranges"} - {full}
    lines = [f"{full}: 10.0.0.0/8", f"{empty}:"]
    content = "\n".join(lines if first else lines[::-1])
    assert sources.load(content)[0].smtp_range == values.NETWORKS.parse("10.0.0.0/8")
    [warning] = sources.warnings(content)
    assert f"{empty} is empty, {full} (config.txt:{1 if first else 2}) holds" in warning


@pytest.mark.parametrize("first", [True, False])
def test_an_empty_file_under_another_name_opens_no_door(sources: Sources, first: bool) -> None:
    held = sources.file("\n", "held")
    lines = ["smtp-range: 10.0.0.0/8", f"smtp-ranges: @{held}"]
    content = "\n".join(lines if first else lines[::-1])
    assert sources.load(content)[0].smtp_range == values.NETWORKS.parse("10.0.0.0/8")
    [warning] = sources.warnings(content)
    assert "smtp-ranges is empty, smtp-range" in warning


def test_what_one_name_takes_back_does_not_take_back_the_other(sources: Sources) -> None:
    content = "smtp-ranges: 10.0.0.0/8\nsmtp-range: 192.0.2.0/24\nsmtp-range:"
    assert sources.load(content)[0].smtp_range == values.NETWORKS.parse("10.0.0.0/8")
    assert sources.warnings(content) == [
        "config.txt:3: smtp-range is given twice, this value holds",
        "config.txt:3: smtp-range is empty, smtp-ranges (config.txt:1) holds",
    ]


@pytest.mark.parametrize("key", ["smtp-range", "smtp-auth", "rabbitmq-password"])
def test_an_empty_file_is_told_since_the_default_may_be_an_open_door(
    sources: Sources, key: str
) -> None:
    held = sources.file("\n", "held")
    assert sources.warnings(f"{QUIET}{key}: @{held}") == [
        f"config.txt:2: {key}: the content of held is empty, the default holds"
    ]


def test_a_later_source_wins_under_either_name(sources: Sources) -> None:
    def range_of(*given: object) -> object:
        return values.NETWORKS.write(sources.load(*given)[0].smtp_range)

    environment = {"FASTSMTP_SMTP_RANGES": "192.0.2.0/24"}
    assert range_of("smtp-range: 10.0.0.0/8", environment) == "192.0.2.0/24"
    assert range_of("", environment, [("smtp-range", "10.0.0.0/8")]) == "10.0.0.0/8"
    assert range_of("", environment, [("smtp-ranges", "10.0.0.0/8")]) == "10.0.0.0/8"
    assert range_of("", environment, [("smtp-range", "")]) == ""
    assert range_of("", environment, [("smtp-ranges", "")]) == ""


def test_an_empty_alias_of_a_later_source_opens_no_door(sources: Sources) -> None:
    content, later = "smtp-range: 10.0.0.0/8", {"FASTSMTP_SMTP_RANGES": ""}
    assert sources.load(content, later)[0].smtp_range == values.NETWORKS.parse("10.0.0.0/8")
    assert sources.warnings(content, later) == [
        "environment: smtp-ranges is empty, smtp-range (config.txt:1) holds"
    ]


def test_a_file_that_does_not_fit_is_told_by_the_name_that_was_written(sources: Sources) -> None:
    assert sources.errors(QUIET + "smtp-privatekey: /missing/key\nsmtp-secureport: 465") == [
        "config.txt:3: smtp-secureport: needs smtp-certificate",
        "config.txt:2: smtp-privatekey: expected a file that can be read, found /missing/key: "
        "No such file or directory",
    ]


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        ("smtp-connections-in: 50", 50),
        ("smtp-connections-in: 20000", 20000),
        ("smtp-connections: 100\nsmtp-connections-in: 50", 50),
        ("smtp-connections-in: 50\nsmtp-connections: 100", 50),
        ("smtp-connections-in: 100\nsmtp-connections: 50", 50),
        ("smtp-connections-in: 50\nsmtp-connections:", 50),
        ("smtp-connections-in:\nsmtp-connections: 50", 50),
    ],
)
def test_the_smaller_limit_of_connections_holds(sources: Sources, content: str, limit: int) -> None:
    settings, warnings = sources.load(QUIET + content)
    assert (settings.smtp_connections, warnings) == (limit, [])


def test_a_smaller_limit_that_holds_over_a_later_source_is_told(sources: Sources) -> None:
    later = (QUIET + "smtp-connections-in: 50", {}, [("smtp-connections", "100")])
    assert sources.load(*later)[0].smtp_connections == 50
    assert sources.warnings(*later) == [
        "config.txt:2: smtp-connections-in: 50 holds, the smaller one of smtp-connections and "
        "smtp-connections-in"
    ]


@pytest.mark.parametrize(
    ("content", "urls"),
    [
        ("rabbitmq-host: h", "amqp://guest:guest@h/"),
        ("rabbitmq-host: h:5673", "amqp://guest:guest@h:5673/"),
        ("rabbitmq-host: h1, h2:5673", "amqp://guest:guest@h1/,amqp://guest:guest@h2:5673/"),
        ("rabbitmq-host: h1;h2;", "amqp://guest:guest@h1/,amqp://guest:guest@h2/"),  # MailerQ 3's
        ("rabbitmq-host: ::1", "amqp://guest:guest@[::1]/"),
        ("rabbitmq-host: [::1]:5673,::2", "amqp://guest:guest@[::1]:5673/,amqp://guest:guest@[::2]/"),
        ("rabbitmq-user: me", "amqp://me:guest@localhost/"),
        ("rabbitmq-password: pw", "amqp://guest:pw@localhost/"),
        ("rabbitmq-vhost: mail", "amqp://guest:guest@localhost/mail"),
        ("rabbitmq-vhost: /", "amqp://guest:guest@localhost/"),
        ("rabbitmq-vhost: /mail/in", "amqp://guest:guest@localhost/%2Fmail%2Fin"),
        ("rabbitmq-host: h\nrabbitmq-user:\nrabbitmq-vhost:", "amqp://guest:guest@h/"),
        ("rabbitmq-host:\nrabbitmq-user:\nrabbitmq-vhost:", "amqp://guest:guest@localhost/"),
        (
            "rabbitmq-host: h\nrabbitmq-vhost: v\n"
            "rabbitmq-user: me@x\nrabbitmq-password: a@:/%#;,b?[ü",
            "amqp://me%40x:a%40%3A%2F%25%23%3B%2Cb%3F%5B%C3%BC@h/v",
        ),
    ],
)  # fmt: skip
def test_parts_make_the_address_of_the_broker(sources: Sources, content: str, urls: str) -> None:
    settings, warnings = sources.load(QUIET + content)
    assert settings.rabbitmq_address == tuple(urls.split(",amqp://")[:1]) + tuple(
        f"amqp://{url}" for url in urls.split(",amqp://")[1:]
    )
    assert warnings == []


UNPRINTABLE = "a\u00a0b\u3000c\u200dd\u00ade\U0001faff"
"""No-break space, joiner of emoji, soft hyphen and the like: in a password all of them count."""


@pytest.mark.parametrize(
    "line",
    [
        f"smtp-password: {UNPRINTABLE}",
        f"smtp-auth: hardcoded://user:{UNPRINTABLE}",
        f"rabbitmq-password: {UNPRINTABLE}",
    ],
)
def test_a_password_may_have_characters_that_are_not_printable(sources: Sources, line: str) -> None:
    content = f"{QUIET}smtp-insecure-auth: 1\nsmtp-username: u\nsmtp-password: x\n{line}"
    settings = sources.load(content)[0]
    [url] = settings.rabbitmq_address
    known = settings.smtp_password, settings.smtp_auth[-len(UNPRINTABLE) :], urlsplit(url).password
    assert UNPRINTABLE in [unquote(each or "") for each in known]
    for control in ("\x00", "\x1b", "\x7f", "\x85"):
        [error] = sources.errors(content + control + "x")
        assert "control characters" in error or "hardcoded://…" in error


RAW = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["C", "Z"]), min_size=1
)


@given(RAW, RAW)
def test_user_and_password_are_taken_raw(user: str, password: str) -> None:
    parts = {"rabbitmq-user": user, "rabbitmq-password": password}
    [url] = values.BROKER.parse(mailerq.address(parts))
    read = urlsplit(url)
    assert (unquote(read.username or ""), unquote(read.password or "")) == (user, password)
    assert read.hostname == "localhost"


def test_parts_may_come_from_several_sources(sources: Sources) -> None:
    secret = sources.file("s3cret\n", "secret")
    settings, _ = sources.load(
        f"rabbitmq-host: h\nrabbitmq-user: me\nrabbitmq-password: @{secret}",
        {"FASTSMTP_RABBITMQ_VHOST": "v"},
        [("rabbitmq-user", "you")],
    )
    assert settings.rabbitmq_address == ("amqp://you:s3cret@h/v",)


@pytest.mark.parametrize(
    "address",
    [
        "amqp://me:p%40ss@h/",
        "amqp://me:p%40ss@H:5672/%2F",
        "amqp://me:p%40ss@h",
        "amqp://me:p%40ss@h/?heartbeat=10",
        "",
    ],
)
def test_an_address_that_says_the_same_is_no_error(sources: Sources, address: str) -> None:
    parts = "rabbitmq-host: h\nrabbitmq-user: me\nrabbitmq-password: p@ss\n"
    settings, warnings = sources.load(f"{QUIET}{parts}rabbitmq-address: {address}")
    assert settings.rabbitmq_address == (address or "amqp://me:p%40ss@h/",)
    assert warnings == []


@pytest.mark.parametrize(
    "address", ["amqp://other:hunter2@h/", "amqp://guest:guest@localhost/", "none"]
)
def test_an_address_that_says_otherwise_is_an_error(sources: Sources, address: str) -> None:
    parts = "rabbitmq-host: h\nrabbitmq-password: hunter3"
    [error] = sources.errors(f"rabbitmq-address: {address}\n{parts}")
    assert error == (
        "config.txt:2: rabbitmq-host, rabbitmq-password: expected the broker of rabbitmq-address "
        f"(config.txt:1), {values.mask_broker(address)}, found amqp://guest:***@h/: "
        "remove one of the two"
    )
    assert "hunter" not in error


def test_an_address_of_a_later_source_wins(sources: Sources) -> None:
    for address in ("amqp://me:pw@h2/", "none"):
        settings, _ = sources.load("rabbitmq-host: h", {}, [("rabbitmq-address", address)])
        assert values.BROKER.write(settings.rabbitmq_address) == address


def test_a_part_of_a_later_source_never_moves_the_mail_elsewhere(sources: Sources) -> None:
    [error] = sources.errors(
        "rabbitmq-address: amqp://me:pw@h/", {"FASTSMTP_RABBITMQ_PASSWORD": "hunter2"}
    )
    assert error.startswith("environment: rabbitmq-password: expected the broker of ")
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("h:99999", "'h:99999'"),
        ("h:port", "'h:***'"),
        ("a b", "'a b'"),
        ("[::1", "'[::1'"),
        (",", "','"),
        ("amqp://me:hunter2@h", "'amqp://me:***@h'"),
        ("me:hunter2@h", "'me:***@h'"),
    ],
)
def test_a_wrong_host_is_told_as_it_was_written(sources: Sources, text: str, shown: str) -> None:
    assert sources.errors(f"rabbitmq-host: {text}\nrabbitmq-address: amqp://other/") == [
        'config.txt:1: rabbitmq-host: expected host or host:port, several with "," between, '
        f"found {shown}"
    ]


def test_a_wrong_password_is_not_shown(sources: Sources) -> None:
    held = sources.file("hunter2\x01", "secret")
    for text, shown in {
        "hunter2\x01": "a value that is not shown",
        f"@{held}": "the content of secret",
    }.items():
        assert sources.errors(f"rabbitmq-password: {text}") == [
            "config.txt:1: rabbitmq-password: expected text without control characters, "
            f"found {shown}"
        ]


def test_a_file_that_is_not_utf8_is_told_so(sources: Sources) -> None:
    latin = f"{QUIET}rabbitmq-password: p\u00e4ss".encode("latin-1")
    [error] = sources.errors(latin)
    assert error.endswith("found a value that is not shown (the file is not UTF-8)")


def test_what_check_shows_holds_no_password_of_parts(sources: Sources) -> None:
    settings, _ = sources.load(
        "rabbitmq-host: h\nrabbitmq-user: me\nrabbitmq-password: a@b:hunter2"
    )
    assert "rabbitmq-address: amqp://me:***@h/\n" in config.written(settings)
