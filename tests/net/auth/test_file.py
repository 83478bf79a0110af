"""net/auth/file: users in a file of hashes; who knows nobody's name pays what everybody pays."""

import asyncio
import os
import subprocess
import sys
from collections import Counter

import bcrypt
import pytest
from argon2 import PasswordHasher

from fastsmtp.net.auth import file, hashes
from fastsmtp.net.auth.file import File
from tests.net.auth.test_authenticator import REFUSED, UNAVAILABLE, auth, b64
from tests.support.daemon import COMMAND
from tests.support.patience import until
from tests.support.wire import Wire

CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def bcrypted(password):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def argon(password):
    return CHEAP.hash(password)


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users"
    lines = [
        f"bea:{bcrypted('b')}",
        f"ann:{argon('ä')}",
        f"yvo:{bcrypted('y').replace('2b', '2y')}",
    ]
    path.write_text("# who may send\n\n" + "\n".join(lines) + "\n")
    return path


def ask(path, *pairs):
    """What the file says to each (user, password)."""

    async def run():
        made = File(f"file://{path}")
        return [await made.check(user, password.encode()) for user, password in pairs]

    return asyncio.run(run())


@pytest.fixture
def hashed(monkeypatch):
    """Counts what is hashed: (kind of hash, password)."""
    done = Counter()
    verify = hashes.verify

    def counting(stored, password):
        done[stored[:3], password] += 1
        return verify(stored, password)

    monkeypatch.setattr(hashes, "verify", counting)
    return done


def test_bcrypt_and_argon2(users):
    right = [("bea", "b"), ("ann", "ä"), ("yvo", "y")]
    assert ask(users, *right) == [True] * 3
    wrong = [("bea", "ä"), ("ann", "b"), ("yvo", ""), ("", "b"), ("BEA", "b"), ("bea:", "b")]
    assert ask(users, *wrong) == [False] * 6


def test_a_password_with_nul_and_one_of_any_length(users):
    long = "x" * 9000
    users.write_text(f"a:{argon(long)}\nb:{bcrypted(long[:72])}\n")
    assert ask(users, ("a", long), ("b", long[:72]), ("a", long + "x")) == [True, True, False]
    assert ask(users, ("a", "x\0"), ("b", "x\0x")) == [False, False]


def test_a_password_that_bcrypt_would_cut_fits_nothing(users, hashed):
    """bcrypt's functions cut at 72 bytes, or raise; and `x`, NUL, `x` would be as good as `x`."""
    long = "x" * 72
    users.write_text(f"a:{bcrypted(long)}\nb:{bcrypted('x')}\n")
    tried = [("a", long + "x"), ("a", long + "\0"), ("a", "é" * 36 + "x"), ("a", "x" * 9000)]
    tried += [("b", "x\0x"), ("b", "x\0"), ("b", "\0x"), ("b", "x\0x\0x")]
    assert ask(users, *tried) == [False] * len(tried)
    assert hashed.total() == len(tried)
    assert ask(users, ("a", long), ("b", "x")) == [True, True]


def test_a_bcrypt_line_and_a_long_password_on_the_wire(users, start_daemon):
    """535 as for any wrong password; a line of `fastsmtp passwd` takes one of any length."""
    long = "é" * 40
    users.write_text(f"a:{bcrypted(long[:36])}\nb:{bcrypted('x')}\n")
    with users.open("ab") as appended:
        typed = f"{long}\n".encode()
        subprocess.run([*COMMAND, "passwd", "c"], input=typed, stdout=appended, check=True)
    daemon = start_daemon(smtp_auth=f"file://{users}", smtp_insecure_auth="true")
    for user, password, code in [
        *(("a", long[:36], 235), ("c", long, 235), ("a", long, 535), ("c", long[:36], 535)),
    ]:
        assert auth(daemon.port, user, password)[0].code == code
    with Wire(daemon.port) as client:  # AUTH PLAIN has no room for a NUL, AUTH LOGIN has
        client.ehlo()
        client.command("AUTH LOGIN " + b64("b"))
        assert client.command(b64("x\0x")).raw == REFUSED
    assert "could not be checked" not in daemon.log


def test_an_unknown_user_costs_one_hash_like_a_known_one(users, hashed):
    ask(users, ("bea", "wrong"), ("nobody", "wrong"), ("nobody", "wrong"), ("ann", "wrong"))
    assert hashed.total() == 4


def test_an_unknown_user_with_somebodys_password_is_nobody(tmp_path, hashed):
    path = tmp_path / "one"
    path.write_text(f"bea:{bcrypted('b')}\n")
    assert ask(path, ("nobody", "b")) == [False]
    assert hashed.total() == 1


def test_a_success_is_hashed_once_and_a_failure_every_time(users, hashed):
    assert ask(users, *[("bea", "b")] * 5) == [True] * 5
    assert hashed.total() == 1
    assert ask(users, *[("bea", "c")] * 5) == [False] * 5
    assert hashed.total() == 1 + 5


def test_a_changed_password_ends_what_is_remembered(users, monkeypatch):
    monkeypatch.setattr(file, "LOOK", 0)

    async def run():
        made = File(f"file://{users}")
        assert await made.check("bea", b"b")
        users.write_text(f"bea:{bcrypted('new')}\n")
        assert not await made.check("bea", b"b")
        assert await made.check("bea", b"new")
        assert not await made.check("ann", "ä".encode())

    asyncio.run(run())


def test_many_connections_of_one_user_hash_little(users, hashed):
    async def run():
        made = File(f"file://{users}")
        return await asyncio.gather(*(made.check("bea", b"b") for _ in range(100)))

    assert asyncio.run(run()) == [True] * 100
    assert hashed.total() <= file.THREADS


def test_what_is_remembered_is_bounded_and_no_password(users, monkeypatch):
    monkeypatch.setattr(file, "REMEMBERED", 2)

    async def run():
        made = File(f"file://{users}")
        for pair in [("bea", b"b"), ("ann", "ä".encode()), ("yvo", b"y")]:
            assert await made.check(*pair)
        assert len(made._remembered) == 2
        assert all(len(digest) == 32 for digest in made._remembered)

    asyncio.run(run())


def test_bad_lines_are_named_without_their_hash(users):
    good = bcrypted("x")
    lines = ["no colon", f":{good}", "eve:hunter2", f"c\x01:{good}", "md5:$apr1$hunter2"]
    users.write_text("\n".join([*lines, f"bea:{good}", f"bea:{good}", f" ann:{good} "]))
    told = file.problems(f"file://{users}")
    assert [problem.split(", ")[1].split(":")[0] for problem in told] == [
        *("line 1", "line 2", "line 3", "line 4", "line 5", "line 7")
    ]
    assert "hunter2" not in "".join(told)
    assert good not in "".join(told)
    assert ask(users, ("bea", "x"), ("ann", "x"), ("eve", "hunter2")) == [True, True, False]


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "$2b$04$" + "9" * 53,  # no salt of 16 octets
        "$2b$99$" + "." * 53,
        "$2b$04$" + "." * 52,
        "$2b$04$" + "." * 54,
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$",
        "$argon2id$v=19$m=8,t=1,p=1$!!!!!!!!!!!$!!!!!!",
        "$argon2id$v=19$m=x,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ",
        "$argon2xx$v=19$m=8,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ",
        "{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ",
        "$6$rounds=5000$abc$def",
    ],
)
def test_what_is_no_hash_is_told(tmp_path, hashed):
    path = tmp_path / "users"
    path.write_text(f"eve:{hashed}\n")
    assert len(file.problems(f"file://{path}")) == 1
    assert ask(path, ("eve", "x")) == [False]


@pytest.mark.parametrize(
    "hashed",
    [
        "$2b$04$" + "." * 53,
        "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHRzb21lc2FsdA",  # 4 TiB
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQx9$c29tZXNhbHR",
        "$argon2d$m=8,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHRzb21lc2FsdA",
    ],
)
def test_what_looks_like_a_hash_is_nobodys_password(tmp_path, hashed):
    path = tmp_path / "users"
    path.write_text(f"eve:{hashed}\n")
    assert ask(path, ("eve", "x"), ("nobody", "x")) == [False, False]


def test_check_tells_bad_lines_and_files_that_are_missing(users):
    words = [*COMMAND, "check", "--smtp-insecure-auth", "yes", "--smtp-ip", "127.0.0.1"]

    def check(path):
        return subprocess.run(
            [*words, "--smtp-auth", f"file://{path}"], capture_output=True, text=True, check=False
        )

    done = check(users)
    assert (done.returncode, done.stderr) == (0, "")
    users.write_text("eve:hunter2\n")
    done = check(users)
    assert done.returncode == 0
    assert f"warning: smtp-auth: {users}, line 1: eve: expected an argon2, bcrypt" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    done = check(f"{users}.gone")
    assert done.returncode == 2
    assert "smtp-auth: expected a file that can be read" in done.stderr


def test_passwd_makes_lines_that_the_daemon_takes_at_once(users, start_daemon):
    daemon = start_daemon(smtp_auth=f"file://{users}", smtp_insecure_auth="true")
    assert auth(daemon.port, "dora", "gehêim")[0].raw == REFUSED
    made = subprocess.run(
        [*COMMAND, "passwd", "dora"], input="gehêim\n".encode(), stdout=subprocess.PIPE, check=True
    )
    with users.open("ab") as appended:
        appended.write(made.stdout)
    until(lambda: auth(daemon.port, "dora", "gehêim")[0].code == 235)
    kept = [line for line in users.read_text().splitlines() if not line.startswith("bea:")]
    assert auth(daemon.port, "bea", "b")[0].code == 235
    (users.parent / "new").write_text("\n".join([*kept, "eve:nonsense"]))
    os.replace(users.parent / "new", users)
    until(lambda: auth(daemon.port, "bea", "b")[0].code == 535)
    assert daemon.log.count("eve: expected an argon2, bcrypt, $5$ or $6$ hash") >= 1
    for secret in ("gehêim", "nonsense", "$argon2"):
        assert secret not in daemon.log


def test_a_file_that_is_gone_is_a_temporary_error_until_it_is_back(users, start_daemon):
    daemon = start_daemon(
        smtp_auth=f"file://{users}",
        smtp_username="me",
        smtp_password="mine",
        smtp_insecure_auth="true",
        smtp_threads=1,
    )
    away = users.rename(f"{users}.away")
    until(lambda: auth(daemon.port, "bea", "b")[0].raw == UNAVAILABLE)
    assert auth(daemon.port, "bea", "wrong")[0].raw == UNAVAILABLE
    assert auth(daemon.port, "me", "mine")[0].code == 235  # the pair needs no file
    told = f"clients cannot authenticate: smtp-auth {users}: No such file or directory"
    assert daemon.log.count(told) == 1
    away.rename(users)
    until(lambda: auth(daemon.port, "bea", "b")[0].code == 235)


@pytest.mark.parametrize(
    ("name", "typed"),
    [("a:b", b"x\n"), ("", b"x\n"), ("#a", b"x\n"), ("a\x01", b"x\n"), ("me", b""), ("me", b"\n")],
)
def test_passwd_refuses_what_cannot_be_a_line(name, typed):
    done = subprocess.run(
        [sys.executable, "-m", "fastsmtp", "passwd", name],
        input=typed,
        capture_output=True,
        check=False,
    )
    assert done.returncode == (1 if name == "me" else 2)
    assert done.stdout == b""
