"""Sources of the configuration: their order, their syntax, and every error at once."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.process import config
from fastsmtp.process.config import ConfigError
from fastsmtp.settings import SETTINGS, Settings, attribute
from fastsmtp.sinks import broker
from tests.support.sources import QUIET, Sources


def test_nothing_given_means_the_defaults(sources: Sources) -> None:
    settings, _ = config.load(default_file=sources.default)
    assert all(
        getattr(settings, name) == getattr(Settings(), name) for name in map(attribute, SETTINGS)
    )


def test_a_later_source_wins(sources: Sources) -> None:
    sources.file("smtp-maxrecipients: 1", "default.txt")
    files = [sources.file("smtp-maxrecipients: 2", "a"), sources.file("smtp-maxrecipients: 3", "b")]
    environment = {"FASTSMTP_SMTP_MAXRECIPIENTS": "4"}
    options = [("smtp-maxrecipients", "5")]

    def effective(*given: object) -> int:
        return config.load(*given, default_file=sources.default)[0].smtp_maxrecipients

    assert effective() == 1
    assert effective(files[:1]) == 2
    assert effective(files) == 3
    assert effective(files, environment) == 4
    assert effective(files, environment, options) == 5


def test_the_first_file_is_where_it_was_promised() -> None:
    assert config.DEFAULT_FILE == "/etc/fastsmtp/config.txt"


def test_every_key_exists_in_every_source(sources: Sources) -> None:
    for key in SETTINGS:
        name = "FASTSMTP_" + key.upper().replace("-", "_")
        sources.load(QUIET + f"{key}:", {name: ""}, [(key, "")])


def test_an_empty_value_means_the_default(sources: Sources) -> None:
    settings, _ = sources.load("smtp-port: 2525\n", {"FASTSMTP_SMTP_PORT": " "})
    assert settings.smtp_port == (25,)
    assert sources.load("smtp-port:\nsmtp-maxsize :")[0].smtp_maxsize == 100 * 1024 * 1024


def test_syntax_of_a_file(sources: Sources) -> None:
    settings, warnings = sources.load(
        "\ufeff# smtp-port: 1\r\n"
        "   # an indented comment \n"
        "\n \t \n"
        "  smtp-port  :  2525\t\r\n"
        "smtp-ip:127.0.0.1\n"
        "rabbitmq-outbox: a # b: c\n"
        "rabbitmq-address: amqp://u:p@h:5672/v"
    )
    assert settings.smtp_port == (2525,)
    assert settings.rabbitmq_outbox == "a # b: c"
    assert settings.rabbitmq_address == ("amqp://u:p@h:5672/v",)
    assert warnings == []


def test_bytes_that_are_not_utf8_do_no_harm_in_a_comment(sources: Sources) -> None:
    assert sources.load(b"# caf\xe9\nsmtp-port: 26\n")[0].smtp_port == (26,)
    assert sources.errors(b"rabbitmq-outbox: caf\xe9") == [
        "config.txt:1: rabbitmq-outbox: expected a name of at most 255 bytes without control "
        "characters, found 'caf\\udce9' (the file is not UTF-8)"
    ]


def test_a_key_given_twice_holds_the_last_value_and_warns(sources: Sources) -> None:
    content = QUIET + "smtp-port: 1\nsmtp-port: 2\n"
    settings, _ = sources.load(content)
    assert settings.smtp_port == (2,)
    assert sources.warnings(content) == ["config.txt:3: smtp-port is given twice, this value holds"]
    options = [("smtp-port", "3"), ("smtp-port", "4")]
    settings, warnings = sources.load(QUIET, None, options)
    assert settings.smtp_port == (4,)
    assert warnings == ["command line: smtp-port is given twice, this value holds"]


def test_the_same_key_in_two_sources_is_no_warning(sources: Sources) -> None:
    assert sources.load(QUIET, {"FASTSMTP_SMTP_IP": "::1"})[1] == []


@pytest.mark.parametrize("source", ["file", "environment", "option"])
def test_a_value_may_stand_in_a_file(sources: Sources, source: str) -> None:
    text = "@" + sources.file(" amqp://u:p@h/\n", "secret")
    given: dict[str, tuple[object, ...]] = {
        "file": (f"rabbitmq-address: {text}",),
        "environment": ("", {"FASTSMTP_RABBITMQ_ADDRESS": text}),
        "option": ("", None, [("rabbitmq-address", text)]),
    }
    assert sources.load(*given[source])[0].rabbitmq_address == ("amqp://u:p@h/",)


def test_white_space_around_a_value_is_no_part_of_it(sources: Sources) -> None:
    settings, _ = sources.load(
        "rabbitmq-outbox:\t a b ",
        {"FASTSMTP_RABBITMQ_INBOX": " c "},
        [("rabbitmq-exchange", " d ")],
    )
    assert (settings.rabbitmq_outbox, settings.rabbitmq_inbox) == ("a b", "c")
    assert settings.rabbitmq_exchange == "d"


def test_an_empty_file_means_the_default(sources: Sources) -> None:
    text = "@" + sources.file("\n", "empty")
    assert sources.load(f"smtp-port: {text}")[0].smtp_port == (25,)


def test_only_a_path_makes_a_value_a_file(sources: Sources) -> None:
    assert sources.load("rabbitmq-outbox: @home")[0].rabbitmq_outbox == "@home"


def test_every_error_is_reported_at_once(sources: Sources) -> None:
    sources.file("smtp-prot: 1\nno colon here\n: 5", "default.txt")
    errors = sources.errors(
        f"smtp-port: http\nrabbitmq-ca: {sources.folder}/missing.pem\nrabbitmq-key: @/missing/key",
        {"FASTSMTP_SMTP_MAXSIZE": "big", "FASTSMTP_SMTP_PROT": "1", "OTHER": "1"},
        [("smtp-received", "perhaps"), ("nonsense", "1")],
    )
    assert errors == [
        "default.txt:2: expected key: value, found no",
        "default.txt:3: expected key: value, found no key",
        "default.txt:1: smtp-prot: unknown key (did you mean smtp-port?)",
        "config.txt:1: smtp-port: expected ports such as 25,2525,1024-1026, 0 for a free one, "
        "or none, found 'http'",
        "config.txt:3: rabbitmq-key: expected a file that can be read (No such file or "
        "directory), found @/missing/key",
        "environment: smtp-maxsize: expected a size such as 100MB: bytes, or with B, KB, MB or "
        "GB, found 'big'",
        "environment: smtp-prot: unknown key (did you mean smtp-port?)",
        "command line: smtp-received: expected true, false, yes, no, on, off, 1 or 0, "
        "found 'perhaps'",
        "command line: nonsense: unknown key",
        "config.txt:2: rabbitmq-ca: expected a file that can be read, found missing.pem: "
        "No such file or directory",
    ]


def test_a_missing_or_unreadable_file_is_an_error(sources: Sources) -> None:
    for path in (sources.folder / "missing", sources.folder):
        with pytest.raises(ConfigError, match=f"{path}: expected a file that can be read"):
            config.load([str(path)], default_file=sources.default)


def test_a_default_file_that_is_there_must_be_readable(sources: Sources) -> None:
    os.mkdir(sources.default)
    with pytest.raises(ConfigError, match="expected a file that can be read"):
        config.load(default_file=sources.default)


def test_variables_that_others_set_are_no_error(sources: Sources) -> None:
    environment = {
        "FASTSMTP_BUILD": "debug",  # setup.py's
        "FASTSMTP_NAME": "/web/fastsmtp",  # Docker's, for a link called fastsmtp
        "FASTSMTP_ENV_PATH": "/bin",
    }
    assert sources.load(QUIET, environment)[1] == []


def service(prefix: str) -> dict[str, str]:
    """What Kubernetes puts into every pod beside a service, as its documentation lists it."""
    return {
        f"{prefix}_SERVICE_HOST": "10.0.0.11",
        f"{prefix}_SERVICE_PORT": "25",
        f"{prefix}_SERVICE_PORT_SMTP": "25",
        f"{prefix}_SERVICE_PORT_SMTP_TLS": "465",
        f"{prefix}_PORT": "tcp://10.0.0.11:25",
        f"{prefix}_PORT_25_TCP": "tcp://10.0.0.11:25",
        f"{prefix}_PORT_25_TCP_PROTO": "tcp",
        f"{prefix}_PORT_25_TCP_PORT": "25",
        f"{prefix}_PORT_25_TCP_ADDR": "10.0.0.11",
        f"{prefix}_PORT_53_UDP": "udp://10.0.0.11:53",
        f"{prefix}_PORT_53_UDP_ADDR": "10.0.0.11",
    }


@pytest.mark.parametrize(
    "prefixes",
    [
        ["FASTSMTP"],
        ["FASTSMTP_SMTP"],  # its port has the name of a setting
        ["FASTSMTP_SMTP_SECURE"],
        ["FASTSMTP_MX_2"],
        ["FASTSMTP_SMTP", "FASTSMTP"],
    ],
)
def test_variables_of_kubernetes_are_ignored_with_one_line(
    sources: Sources, prefixes: list[str]
) -> None:
    environment = {name: text for prefix in prefixes for name, text in service(prefix).items()}
    settings, [warning] = sources.load(QUIET + "smtp-port: 2525", environment)
    assert settings.smtp_port == (2525,)
    assert settings.smtp_secure_port == ()
    assert warning.startswith("environment: ignored what Kubernetes says of a service ")
    assert warning.partition("off): ")[2] == ", ".join(sorted(environment))


def test_a_setting_is_taken_beside_variables_of_kubernetes(sources: Sources) -> None:
    environment = service("FASTSMTP_SMTP") | {"FASTSMTP_SMTP_PORT": "2525"}
    assert sources.load(QUIET, environment)[0].smtp_port == (2525,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FASTSMTP_SMTP_PORTS", "25"),
        ("FASTSMTP_SMPT_PORT", "25"),
        ("FASTSMTP_PORT", "25"),
        ("FASTSMTP_SERVICE", "x"),
        ("FASTSMTP_SMTP_HOSTNAME", "tcp://10.0.0.1:25"),
        ("FASTSMTP_HOSTNAM", "tcp://10.0.0.1:25"),
        ("FASTSMTP_SMTP_PORT", "http://10.0.0.1:25"),
    ],
)
def test_any_other_variable_is_read_as_a_setting(sources: Sources, name: str, text: str) -> None:
    key = name.removeprefix("FASTSMTP_").lower().replace("_", "-")
    [error] = sources.errors(QUIET, {name: text})
    assert error.startswith(f"environment: {key}: ")


def test_extract_is_a_boolean_or_trusted(sources: Sources) -> None:
    assert sources.load("smtp-extract: Trusted")[0].smtp_extract == "trusted"
    assert sources.load("smtp-extract: no")[0].smtp_extract == "false"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("smtp-port: none", "smtp-port: no port to listen on, smtp-secure-port is empty"),
        ("smtp-secure-port: 465", "smtp-secure-port: needs smtp-certificate"),
        ("smtp-require-tls: true", "smtp-require-tls: needs smtp-certificate"),
        ("smtp-username: me", "smtp-username: needs smtp-password"),
        ("smtp-password: pw", "smtp-password: needs smtp-username"),
        (
            "smtp-username: me\nsmtp-password: pw",
            "smtp-username: needs smtp-certificate, or smtp-insecure-auth: true",
        ),
        (
            "smtp-auth: hardcoded://me:pw",
            "smtp-auth: needs smtp-certificate, or smtp-insecure-auth: true",
        ),
        (
            "smtp-maxmemory: 399MB",
            "smtp-maxmemory: expected at least 4 times smtp-maxsize (100MB), found 399MB",
        ),
        (
            "smtp-auth: file:///missing/users",
            "smtp-auth: expected a file that can be read, found /missing/users: "
            "No such file or directory",
        ),
        (
            "smtp-key: /dev/null; /missing/key",
            "smtp-key: expected a file that can be read, found /missing/key: "
            "No such file or directory",
        ),
    ],
)
def test_settings_that_do_not_fit_together(sources: Sources, content: str, error: str) -> None:
    assert f"config.txt:1: {error}" in sources.errors(content)


def test_a_size_without_its_memory_is_blamed_on_the_default(sources: Sources) -> None:
    assert sources.errors("smtp-maxsize: 300MB") == [
        "default: smtp-maxmemory: expected at least 4 times smtp-maxsize (300MB), found 1GB"
    ]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("smtp-username: me\nsmtp-password: hunter2", "needs smtp-password"),
        ("smtp-username: me\nsmtp-password: pw\nsmtp-insecure-auth: on\nx: y", "needs"),
        ("smtp-secure-port: 465\nsmtp-certificate: /dev/null", "needs"),
        ("smtp-port: none\nsmtp-secure-port: 465", "no port"),
        ("smtp-maxmemory: 400MB", "at least"),
        ("smtp-username: me\nsmtp-password: \x01", "needs smtp-password"),  # its own error is told
    ],
)
def test_settings_that_fit_together(sources: Sources, content: str, wrong: str) -> None:
    errors = sources.errors(f"{content}\nunknown: x")
    assert any("unknown" in line for line in errors)
    assert not any(wrong in line for line in errors)


def test_no_secret_is_in_an_error(sources: Sources) -> None:
    secret = "@" + sources.file("hunter2\x01", "secret")
    errors = sources.errors(
        "smtp-password: hunter2\x01\n"
        "smtp-auth: hunter2\n"
        "rabbitmq-address: amqp://me:hunter2@host:port/\n"
        "smtp-password hunter2\n"
        "smtp-password=hunter2:3\n",
        {"FASTSMTP_SMTP_PASSWORD": secret, "FASTSMTP_RABBITMQ_ADDRESS": secret},
        [("smtp-password", "hunter2"), ("smtp-auth", "hardcoded://me:hunter2")],
    )
    assert len(errors) == 9
    assert "hunter2" not in "\n".join(errors)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "[smtp]",
            "expected key: value, found a section header: config files have no sections, remove "
            "the line",
        ),
        ("[rabbitmq: one]", "expected key: value, found a section header: config files have no "),
        ("SMTP-Port: 25", "SMTP-Port: unknown key (did you mean smtp-port?)"),
        ("smtp_port: 25", "smtp_port: unknown key (did you mean smtp-port?)"),
        ("SMTP-Ranges: ::1", "SMTP-Ranges: unknown key (did you mean smtp-ranges?)"),
        ('smtp-hostname: "mx"', "found '\"mx\"' (values take no quotes)"),
        ("smtp-port: '25'", "found \"'25'\" (values take no quotes)"),
        (
            'rabbitmq-address: "amqp://me:hunter2@h/"',
            "found '\"amqp:***@h/\"' (values take no quotes)",
        ),
        ("smtp-auth: 'hunter2'", "found a value that is not shown (values take no quotes)"),
        ("smtp-port: 25 # plain", "found '25 # plain' (comments stand on lines of their own)"),
        (
            "smtp-range: 10.0.0.0/8, 192.168.0.0/16",
            'found \'10.0.0.0/8, 192.168.0.0/16\' (divided by ";", not by ",")',
        ),
        ("smtp-ip: 127.0.0.1,::1", 'found \'127.0.0.1,::1\' (divided by ";", not by ",")'),
        ("smtp-port: 25;26", "found '25;26'"),
    ],
)
def test_what_other_config_files_have_is_told_by_name(
    sources: Sources, line: str, error: str
) -> None:
    [found] = sources.errors(line)
    assert found.startswith("config.txt:1: ")
    assert error in found
    assert "hunter2" not in found


def test_quotes_that_are_taken_are_a_warning(sources: Sources) -> None:
    content = QUIET + "rabbitmq-outbox: \"out\"\nrabbitmq-inbox: it's\nrabbitmq-exchange: x'"
    settings, _ = sources.load(content)
    assert settings.rabbitmq_outbox == '"out"'
    assert sources.warnings(content) == [
        "config.txt:2: rabbitmq-outbox: values take no quotes, these are part of the value"
    ]


def test_a_named_folder_of_the_queue_must_be_there(sources: Sources) -> None:
    folder = sources.folder / "new"
    content = QUIET + f"rabbitmq-address: none\nqueue-file: {folder}/queue.db"
    assert sources.errors(content) == [
        "config.txt:3: queue-file: expected a file that can be written, found new/queue.db: the "
        "folder new is missing, create it"
    ]
    folder.mkdir()
    sources.load(content)


def test_the_default_folder_of_the_queue_need_not_be_there(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastsmtp.settings.os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", f"{sources.folder}/new/state")
    for line in ("", f"queue-file: {sources.folder}/new/state/fastsmtp/queue.db"):
        assert sources.warnings(f"{QUIET}rabbitmq-address: none\n{line}") == []


def test_an_open_door_is_no_warning_beside_errors(sources: Sources) -> None:
    with pytest.raises(ConfigError) as error:
        sources.load("smtp-timeout: soon\nsmtp-timeout: later")
    assert error.value.warnings == [
        f"{sources.folder}/config.txt:2: smtp-timeout is given twice, this value holds"
    ]


def test_an_open_door_is_a_warning(sources: Sources) -> None:
    for content in ("", "smtp-ip: 0.0.0.0", "smtp-ip: 127.0.0.1;192.0.2.1"):
        assert [line[:18] for line in sources.warnings(content)] == ["anyone may connect"]
    for content in (QUIET, "smtp-ip: ::1", "smtp-ip: 127.3.2.1; ::1"):
        assert sources.warnings(content) == []


def test_a_range_is_a_guarded_door(sources: Sources) -> None:
    assert sources.warnings("smtp-range: 10.0.0.0/8") == []


@pytest.mark.parametrize("content", ["smtp-username: me", "smtp-auth: hardcoded://a:b"])
def test_a_guarded_door_is_none(sources: Sources, content: str) -> None:
    with pytest.raises(ConfigError) as error:
        sources.load(content)
    assert error.value.warnings == []


def test_mail_that_is_not_persistent_is_a_warning(sources: Sources) -> None:
    assert sources.warnings(QUIET + "rabbitmq-persistent: no") == [
        "rabbitmq-persistent is false: confirmed mail does not survive a crash of the broker"
    ]
    assert sources.warnings(QUIET + "rabbitmq-persistent: no\nrabbitmq-address: none") == []


def test_written_settings_are_a_config_file_that_means_the_same(sources: Sources) -> None:
    settings, _ = sources.load(
        QUIET
        + "smtp-port: 25,2525\nsmtp-maxsize: 12345\nrabbitmq-address: none\nsmtp-grace: 1m\n"
        + "smtp-mappable-ips: 10.0.0.0/8;::/0\nlog-format: json\nrabbitmq-maxsize: 16MB"
    )
    text = config.written(settings)
    again, warnings = sources.load(text)
    assert warnings == []
    assert config.written(again) == text
    assert all(getattr(again, name) == getattr(settings, name) for name in map(attribute, SETTINGS))


def test_written_settings_hold_no_password() -> None:
    text = config.written(
        Settings(
            smtp_password="hunter2",
            smtp_auth="hardcoded://me:hunter2",
            rabbitmq_address=("amqp://me:hunter2@h1/", "amqp://me:hunter2@h2/"),
        )
    )
    assert "hunter2" not in text
    assert "smtp-password: ***\n" in text
    assert "rabbitmq-address: amqp://me:***@h1/,amqp://me:***@h2/\n" in text


@given(st.data())
def test_settings_survive_the_way_to_another_process(data: st.DataObject) -> None:
    given = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "rabbitmq-address": st.sampled_from(
                    ["none", "amqp://me:s%2Fe@h/v,amqps://me:x@h2:1/", "amqp://a:b@h1;h2"]
                ),
                "smtp-port": st.sampled_from(["none", "0", "25,2525-2527"]),
                "smtp-maxsize": st.integers(1, 1 << 40).map(str),
                "smtp-timeout": st.sampled_from(["1ms", "1.5", "5m", "0.3s"]),
                "smtp-ip": st.sampled_from(["", "::1;127.0.0.1"]),
                "smtp-mappable-ips": st.sampled_from(["", "10.0.0.0/8; ::1"]),
                "smtp-threads": st.sampled_from(["auto", "3"]),
                "smtp-extract": st.sampled_from(["yes", "no"]),
                "rabbitmq-maxpriority": st.sampled_from(["", "0", "9"]),
                "metrics-address": st.sampled_from(["", "127.0.0.1:9", "[::1]:9"]),
            },
        )
    )
    settings = Settings(
        **{
            key.replace("-", "_"): SETTINGS[key].kind.parse(text)
            for key, text in given.items()
            if text
        }
    )
    assert config.from_texts(config.texts(settings)) == settings
    assert config.from_texts(config.texts(settings) | {"of-a-later-version": "x"}) == settings


def test_a_spill_needs_a_broker_and_a_file_of_its_own(sources: Sources) -> None:
    spill = f"rabbitmq-spill: {sources.folder}/spill.db\n"
    sources.load(f"{QUIET}{spill}")
    [error] = sources.errors(f"{QUIET}{spill}rabbitmq-address: none\n")
    assert error.endswith("the queue file takes all mail, there is no broker to wait for")
    [error] = sources.errors(f"{QUIET}{spill}queue-file: {sources.folder}/./spill.db\n")
    assert error.endswith("spill.db: the spill needs a file of its own")


def test_a_spill_on_the_brokers_disk_is_a_warning(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "BROKER_FOLDER", str(sources.folder))
    spill = f"{QUIET}rabbitmq-spill: {sources.folder}/spill.db\n"
    [warning] = sources.warnings(f"{spill}rabbitmq-address: amqp://localhost/\n")
    assert "is on the disk of the broker on this machine" in warning
    assert sources.warnings(f"{spill}rabbitmq-address: amqp://mq.example.com/\n") == []
