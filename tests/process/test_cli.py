"""The command as a user meets it: a process with arguments, output and an exit status."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastsmtp import __version__
from fastsmtp.payload import Outgoing
from fastsmtp.process.config import SETTINGS
from fastsmtp.sinks.store import Store
from tests.support.daemon import ROOT
from tests.support.rabbitmq import MAJOR, Broker, declare, free_ports

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `python -m fastsmtp` with arguments and an environment, in a folder of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FASTSMTP_")}
        own = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "COLUMNS": "100"}
        return subprocess.run(
            [sys.executable, "-m", "fastsmtp", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=inherited | own | environment,
        )

    return run


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fastsmtp {__version__}\n")


def test_help_names_every_setting_with_its_default_and_meaning(run: Run) -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    squeezed = "".join(done.stdout.split())  # a line may be broken at any hyphen
    for key, about in SETTINGS.items():
        option = f"--{key}VALUE{about.meaning}Default: {about.shown_default}."
        assert "".join(option.split()) in squeezed
    for group in {about.group for about in SETTINGS.values()}:
        assert f"\n{group}:\n" in done.stdout
    for word in ("serve", "check", "--config-file", "examples:"):
        assert word in done.stdout


def test_help_of_serve_names_every_setting_too(run: Run) -> None:
    done = run("serve", "--help")
    assert done.stdout.startswith("usage: fastsmtp serve [--SETTING VALUE ...]\n")
    for key in (*SETTINGS, "config-file"):
        assert f"\n  --{key} " in done.stdout


def test_a_limit_that_is_no_number_is_told(run: Run) -> None:
    for text in ("x", "0", "-1", "1.5", "9" * 5000):
        done = run("queue", "list", f"--limit={text}")
        assert done.returncode == 2
        assert f"--limit: expected a whole number above 0, found '{text}'" in done.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_every_subcommand_has_help(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: fastsmtp {command}")


def test_check_prints_a_config_file_of_all_settings(run: Run, tmp_path: Path) -> None:
    done = run("check", "--smtp-ip", "127.0.0.1", "--rabbitmq-address=amqp://me:hunter2@h/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "smtp-ip: 127.0.0.1\n" in done.stdout
    assert "rabbitmq-address: amqp://me:***@h/\n" in done.stdout
    keys = [line.split(":")[0] for line in done.stdout.splitlines() if re.match("[a-z]", line)]
    assert keys == list(SETTINGS)
    (tmp_path / "config.txt").write_text(done.stdout)
    assert run("check", "--config-file", "config.txt").stdout == done.stdout


def test_settings_may_stand_on_both_sides_of_the_subcommand(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("smtp-port: 1\nsmtp-maxerrors: 2\nsmtp-maxrecipients: 3\n")
    (tmp_path / "b").write_text("smtp-port: 4\nsmtp-maxerrors: 5\n")
    done = run(
        *("--smtp-port", "6", "--config-file", "a"),
        "check",
        *("--config-file", "b", "--log-level", "error"),
        FASTSMTP_SMTP_GRACE="7",
    )
    assert done.returncode == 0
    for line in (
        "smtp-port: 6",
        "smtp-maxerrors: 5",
        "smtp-maxrecipients: 3",
        "smtp-grace: 7",
        "log-level: error",
    ):
        assert f"\n{line}\n" in done.stdout


def test_keys_of_mailerq_are_options_that_help_does_not_list(run: Run) -> None:
    done = run(
        *("check", "--smtp-ranges", "10.0.0.0/8", "--rabbitmq-host=h:5673", "--smtp-check", "spf"),
        *("--rabbitmq-password", "hunter2"),
    )
    assert done.returncode == 0
    assert "\nsmtp-range: 10.0.0.0/8\n" in done.stdout
    assert "\nrabbitmq-address: amqp://guest:***@h:5673/\n" in done.stdout
    [warning] = done.stderr.splitlines()
    assert warning.startswith("fastsmtp: warning: smtp-check of MailerQ is ignored: ")
    assert "smtp-ranges" not in run("--help").stdout


def test_check_tells_warnings_and_goes_on(run: Run) -> None:
    done = run("check", "--smtp-ip", "127.0.0.1", "--smtp-port", "1", "--smtp-port", "2")
    assert done.returncode == 0
    assert done.stderr == (
        "fastsmtp: warning: command line: smtp-port is given twice, this value holds\n"
    )
    assert "\nsmtp-port: 2\n" in done.stdout


@pytest.mark.parametrize("command", [["check"], ["serve"], []])
def test_a_wrong_configuration_tells_every_error_and_exits_2(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "config.txt").write_text("smtp-ip: 127.0.0.1\nsmtp-maxsize: huge\n")
    done = run(
        *command,
        *(
            "--config-file",
            "config.txt",
            "--smtp-prot",
            "25",
            "--smtp-port",
            "x",
            "--smtp-username=me",
        ),
        *("--log-formt=json", "stray"),
        FASTSMTP_SMTP_GRACE="soon",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition("fastsmtp: error: ")[2] for line in done.stderr.splitlines()] == [
        "config.txt:2: smtp-maxsize: expected a size such as 100MB: bytes, or with B, KB, MB or "
        "GB, found 'huge'",
        "environment: smtp-grace: expected a duration such as 30 or 5m: seconds, or with ms, s, "
        "m or h, found 'soon'",
        "command line: smtp-port: expected ports such as 25,2525,1024-1026, 0 for a free one, or "
        "none, found 'x'",
        "command line: smtp-prot: unknown key (did you mean smtp-port?)",
        "command line: log-formt: unknown key (did you mean log-format?)",
        "command line: stray: unknown key",
        "command line: smtp-username: needs smtp-password",
        "command line: smtp-username: needs smtp-certificate, or smtp-insecure-auth: true",
    ]


@pytest.mark.parametrize("arguments", [["chekc"], ["--smtp-port"], ["check", "--smtp-port"]])
def test_wrong_arguments_exit_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fastsmtp: error: " in done.stderr


def test_an_option_is_never_guessed_from_its_beginning(run: Run) -> None:
    for command in ("check", "serve"):
        done = run(command, "--smtp-maxerr", "1", "--smtp-prot", "25")
        assert "smtp-maxerr: unknown key" in done.stderr
        assert "smtp-prot: unknown key" in done.stderr  # MailerQ has smtp-protection


def test_no_password_is_printed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    done = run(
        *("check", "--smtp-username", "me", f"--smtp-password=@{tmp_path}/secret"),
        FASTSMTP_RABBITMQ_ADDRESS="amqp:/me:hunter2@h/",
    )
    assert done.returncode == 2
    assert "smtp-username: needs smtp-certificate" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


# check --connect


def look(run: Run, url: str, *options: str) -> tuple[int, list[str], list[str]]:
    """Exit status, lines of good news, other lines."""
    address = ("--rabbitmq-address", url)
    done = run("check", "--connect", "--smtp-ip", "127.0.0.1", *address, *options)
    good = re.findall(r"^# ((?:RabbitMQ at|rabbitmq-address) .*)", done.stdout, re.MULTILINE)
    return done.returncode, good, done.stderr.splitlines()


def there(broker: Broker) -> str:
    """Every exchange and queue, and how much is in them."""
    return broker.ctl("list_queues", "name", "messages") + broker.ctl("list_exchanges", "name")


def test_check_connect_says_what_mail_would_meet_and_makes_nothing(
    run: Run, broker: Broker, queue: str
) -> None:
    public = broker.url.replace(":guest@", "@")
    before = there(broker)
    named = ("--rabbitmq-inbox", queue)
    status, good, bad = look(run, broker.url, *named)
    assert (status, bad) == (0, [])
    assert re.fullmatch(
        rf"RabbitMQ at {public}: logged in; version [34]\.[\d.]+; bodies of at most \d+ bytes, "
        r"EHLO says SIZE \d+",
        good[0],
    )
    assert good[1:] == [
        f"RabbitMQ at {public}: the queue '{queue}' is missing and rabbitmq-declare is true: it "
        "will be declared"
    ]
    status, good, bad = look(run, broker.url, *named, "--rabbitmq-declare", "false")
    assert (status, len(good)) == (1, 1)
    assert bad == [
        f"fastsmtp: error: RabbitMQ at {public}: the queue '{queue}' is missing and "
        "rabbitmq-declare is false: mail will be answered 451 4.3.5 (unroutable)"
    ]
    exchange = ("--rabbitmq-exchange", f"x-{queue}", *named)
    status, good, bad = look(run, broker.url, *exchange)
    assert (status, bad) == (0, [])
    assert f"the exchange 'x-{queue}' is missing and rabbitmq-declare is true" in good[1]
    status, good, bad = look(run, broker.url, *exchange, "--rabbitmq-declare", "false")
    assert status == 1
    assert "mail will be answered 451 4.3.0" in bad[0]
    assert there(broker) == before


def test_check_connect_knows_that_a_missing_queue_may_not_be_declared(
    run: Run, broker: Broker, queue: str
) -> None:
    broker.ctl("add_user", queue, "hunter2")
    broker.ctl("set_permissions", queue, "^$", ".*", ".*")
    before = there(broker)
    url = broker.url.replace("guest:guest", f"{queue}:hunter2")
    status, _, bad = look(run, url, "--rabbitmq-inbox", queue)
    assert status == 1
    assert f"the queue '{queue}' is missing and may not be declared: mail will be " in bad[0]
    access = "configure access" if MAJOR >= 4 else "access"
    assert bad[0].endswith(
        f"ACCESS_REFUSED - {access} to queue '{queue}' in vhost '/' refused for user '{queue}'"
    )
    assert there(broker) == before
    broker.ctl("delete_user", queue)


@pytest.mark.parametrize(
    ("kind", "durable"), [("quorum", True), ("classic", True), ("classic", False)]
)
def test_check_connect_knows_the_type_of_a_queue(
    run: Run, broker: Broker, queue: str, kind: str, durable: bool
) -> None:
    arguments = {"x_queue_type": kind} if kind == "quorum" else {}
    asyncio.run(declare(broker.url, queue, durable, **arguments))
    status, good, bad = look(run, broker.url, "--rabbitmq-inbox", queue)
    assert (status, bad) == (0, [])
    assert good[1].endswith(f": the {kind} queue '{queue}' is there")


def test_check_connect_tells_a_refusal_from_an_absence(run: Run, broker: Broker) -> None:
    (dead,) = free_ports(1)
    absent = f"amqp://guest:hunter2@127.0.0.1:{dead}/"
    wrong = broker.url.replace("guest:guest", "guest:hunter2")
    status, good, bad = look(run, f"{absent},{wrong},{broker.url}nowhere")
    assert (status, good) == (1, [])
    assert f"127.0.0.1:{dead}/: cannot be reached: " in bad[0]
    assert ": refused: ACCESS_REFUSED - Login was refused" in bad[1]
    assert bad[2].endswith(": refused: NOT_ALLOWED - vhost nowhere not found")
    assert "hunter2" not in "".join(bad)
    # One of several addresses is enough for mail.
    status, good, bad = look(run, f"{absent},{broker.url}")
    assert (status, len(good), len(bad)) == (0, 2, 1)
    assert bad[0].startswith("fastsmtp: warning: ")


def test_check_connect_without_a_broker_looks_at_the_queue_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    file = ("--queue-file", str(path))
    status, good, bad = look(run, "none", *file)
    assert (status, bad) == (0, [])
    assert good == [
        f"rabbitmq-address is none: mail goes into the queue file {path}, which will be made"
    ]
    assert not path.exists()
    store = Store(str(path), create=True)
    store.add([Outgoing("id", None, "", b"{", b"}" * 2_000_000)])
    store.close()
    status, good, bad = look(run, "none", *file)
    assert (status, bad) == (0, [])
    assert "it holds 1 messages and has room for " in good[0]
    status, good, bad = look(run, "none", *file, "--queue-maxsize", "1MB")
    assert status == 1
    assert "452 4.3.1" in bad[0]


def test_check_connect_tells_wrong_settings_first(run: Run) -> None:
    done = run("check", "--connect", "--smtp-port", "x")
    assert (done.returncode, done.stdout) == (2, "")
