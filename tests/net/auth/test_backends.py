"""net/auth/backends: a new back end takes a class and a row of the table."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

from fastsmtp import values
from fastsmtp.declaration import setting
from fastsmtp.needs import Use
from fastsmtp.net.auth import backends
from fastsmtp.net.auth.base import Backend, SchemeBackend, UnavailableError
from fastsmtp.process import cli, config
from fastsmtp.process.config import SETTINGS
from fastsmtp.settings import Settings
from tests.net.auth.test_authenticator import REFUSED, UNAVAILABLE, plain
from tests.support.held import Inside
from tests.support.wire import Wire

# What would be a file of its own under net/auth/.


class Letters(SchemeBackend):
    """The password of each user is the name, of a given number of letters at most."""

    scheme = "letters://"
    rest = "[0-9]+(/.*)?"
    form = "letters://NUMBER"

    @classmethod
    def longest(cls, settings):
        return int(settings.smtp_auth.removeprefix(cls.scheme).partition("/")[0])

    @classmethod
    def uses(cls, settings):
        if cls.is_configured(settings):
            _, slash, path = settings.smtp_auth.removeprefix(cls.scheme).partition("/")
            if slash:
                yield Use(cls.key, "/" + path, writes=False)

    @classmethod
    def errors(cls, settings):
        if cls.is_configured(settings) and cls.longest(settings) == 0:
            yield (cls.key,), "nobody has a name without letters"

    @classmethod
    def warnings(cls, settings):
        if cls.is_configured(settings) and cls.longest(settings) == 1:
            yield "smtp-auth: names have one letter"

    def __init__(self, url):
        self.longest_name = int(url.removeprefix(self.scheme))

    async def check(self, user, password):
        if len(user) > self.longest_name:
            raise UnavailableError("too many letters")
        return password == user.encode()


@pytest.fixture
def letters(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, Letters))


def answers(port, *pairs):
    found = []
    for user, password in pairs:
        with Wire(port) as client:
            client.ehlo()
            found.append(client.command(f"AUTH PLAIN {plain(user, password)}"))
    return found


@pytest.mark.usefixtures("letters")
def test_clients_authenticate_by_a_new_back_end():
    settings = {"smtp_auth": "letters://3", "smtp_insecure_auth": True}
    with Inside(**settings) as server:
        right, wrong, down = answers(server.port, ("ann", "ann"), ("ann", "bob"), ("anna", "anna"))
        assert (right.code, wrong.raw, down.raw) == (235, REFUSED, UNAVAILABLE)
        with Wire(server.port) as client:
            assert "AUTH PLAIN LOGIN" in client.ehlo().lines
            assert client.command("MAIL FROM:<a@example.com>").code == 530


@pytest.mark.usefixtures("letters")
def test_it_stands_beside_the_pair():
    settings = {"smtp_auth": "letters://3", "smtp_insecure_auth": True}
    with Inside(smtp_username="me", smtp_password="mine", **settings) as server:
        found = answers(server.port, ("me", "mine"), ("me", "me"), ("me", "my"))
        assert [reply.code for reply in found] == [235, 235, 535]


class Everybody(Backend):
    """Takes one password from everybody; a setting of its own asks for it."""

    key = "smtp-secret"

    def __init__(self, password):
        self.password = password

    @classmethod
    def is_configured(cls, settings):
        return bool(settings.smtp_secret)

    @classmethod
    def make(cls, settings):
        return cls(settings.smtp_secret)

    async def check(self, user, password):
        return password == self.password.encode()


@dataclass(frozen=True, kw_only=True, repr=False)
class More(Settings):
    smtp_secret: str = setting("Access", values.TEXT, "", "What all know.", secret=True)


def test_a_setting_of_its_own_is_enough(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, Everybody))
    monkeypatch.setattr("tests.support.held.Settings", More)
    with Inside(smtp_secret="x", smtp_insecure_auth=True) as server:
        right, wrong = answers(server.port, ("ann", "x"), ("ann", "y"))
        assert (right.code, wrong.raw) == (235, REFUSED)
        with Wire(server.port) as client:
            assert "AUTH PLAIN LOGIN" in client.ehlo().lines
            assert client.command("MAIL FROM:<a@example.com>").code == 530


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """`fastsmtp check` in this process: its status, and what it said to standard error."""
    monkeypatch.setattr(os, "environ", {})
    common = ("--smtp-ip=127.0.0.1", "--rabbitmq-address=none", f"--queue-file={tmp_path}/queue.db")

    def run(*options):
        status = cli.main(["check", *common, *options])
        return status, capsys.readouterr().err

    return run


INSECURE = "--smtp-insecure-auth=true"


@pytest.mark.usefixtures("letters")
def test_check_asks_a_new_back_end_what_it_needs(check, tmp_path):
    assert check("--smtp-auth=letters://7", INSECURE) == (0, "")
    status, said = check("--smtp-auth=letters://7")
    assert status == 2
    assert "smtp-auth: needs smtp-certificate, or smtp-insecure-auth: true" in said
    status, said = check("--smtp-auth=letters://0", INSECURE)
    assert status == 2
    assert "command line: smtp-auth: nobody has a name without letters" in said
    status, said = check("--smtp-auth=letters://1", INSECURE)
    assert (status, said) == (0, "fastsmtp: warning: smtp-auth: names have one letter\n")
    status, said = check(f"--smtp-auth=letters://7{tmp_path}/gone", INSECURE)
    assert status == 2
    assert f"expected a file that can be read, found {tmp_path}/gone: No such file" in said


@pytest.mark.usefixtures("letters")
def test_an_error_and_the_documentation_name_every_scheme(check):
    forms = "file:///path or hardcoded://user:pass,user2:pass2 or letters://NUMBER"
    for text, shown in (("letters://x", "letters://…"), ("users", "a value that is not shown")):
        status, said = check(f"--smtp-auth={text}", INSECURE)
        assert status == 2
        assert f"command line: smtp-auth: expected {forms}, found {shown}" in said
    meaning = backends.described(SETTINGS["smtp-auth"]).meaning
    assert meaning.endswith(" or letters://NUMBER.")


@pytest.mark.parametrize("text", ["file:///etc/users", "hardcoded://a:b,c:d"])
def test_value_is_taken(text):
    kind = SETTINGS["smtp-auth"].kind
    assert kind.parse(text) == kind.write(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("file://", "users", "hardcoded://user", "hardcoded://a:b,c", "hardcoded://:b"),
        *("hardcoded://a:", "https://x", "letters://3", "file:///a\x01", "file:///a\n"),
    ],
)
def test_value_is_refused_with_what_was_expected(text):
    kind = SETTINGS["smtp-auth"].kind
    assert kind.expected == "file:///path or hardcoded://user:pass,user2:pass2"
    with pytest.raises(ValueError, match=f"^{re.escape(kind.expected)}$"):
        kind.parse(text)


def test_a_worker_is_never_given_what_no_back_end_takes():
    with pytest.raises(ValueError, match=r"^file:///path or"):
        config.from_texts({"smtp-auth": "letters://3"})


def test_commands_that_read_settings_import_no_library_of_a_back_end(tmp_path):
    (tmp_path / "users").write_text("")
    code = f"""
import sys
from fastsmtp.process import config
config.load(options=[("smtp-auth", "file://{tmp_path}/users"), ("smtp-insecure-auth", "1")])
print(*({{"argon2", "bcrypt"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
