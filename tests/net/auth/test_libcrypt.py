"""net/auth/libcrypt: lines of `openssl passwd` and `mkpasswd`, made by these and checked by us."""

import asyncio
import ctypes
import re
import shutil
import string
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsmtp.net.auth import file, libcrypt
from tests.net.auth.test_authenticator import UNAVAILABLE, auth
from tests.net.auth.test_file import argon, ask
from tests.support.daemon import COMMAND
from tests.support.patience import until

NO_TURN = 0.050
"""Seconds that nothing keeps a worker's other clients waiting."""

MADE = [  # of "Hello world!" by OpenSSL 3.0 and Debian's mkpasswd 5.5
    (
        "$6$LT7UTkQnlgxie.f4$E2NuqIoSg1g/.GeSe7SSR6XYRvKcpcPbuRUHCsDB7tOOUziPTQa67kkxndYS7otLl"
        "L1n/CEmhEKAy895Xbz8s0"
    ),
    "$5$3WmEo9Vd2r9jodU5$iwLs3mlw61pe5uUlFeoZcm2Fb6ji1tZZLoHW/GcPnFA",
    (
        "$6$aG94L8WSCqmIx311$vlFg4jVN.G/qvbZ/FPuQiGkJEsGcY3nU4Bgwkd/g6GJsEf2Yzs0/kZobsAXTWz3gk"
        "nW7gEYH0iqMU/Y5im4nu."
    ),
    "$5$rounds=10000$Wm8y7Xb.yn263Naj$2ZjJf1YophQ4vCm7cs80kokp.oqpQJHuW2mJmag/uIB",
]


def openssl(kind, salt, password):
    """The line's hash as `openssl passwd` makes it, `kind` being 5 or 6."""
    made = subprocess.run(
        ["openssl", "passwd", f"-{kind}", "-salt", salt, "-stdin"],
        input=password if isinstance(password, bytes) else password.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return made.stdout.decode().strip()


def crypt(password, setting):
    """What libcrypt makes of it; "*0" or "*1" where it takes it not."""
    data = ctypes.create_string_buffer(1 << 18)
    return libcrypt.crypt_r()(password, setting.encode(), data).decode()


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A system without libcrypt: for the processes that the test starts."""
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


def check(path):
    words = [*COMMAND, "check", "--smtp-insecure-auth", "yes", "--smtp-ip", "127.0.0.1"]
    return subprocess.run(
        [*words, "--smtp-auth", f"file://{path}"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("hashed", MADE)
def test_lines_that_were_made_once(hashed):
    assert libcrypt.problem(hashed) == ""
    assert libcrypt.fits(hashed, b"Hello world!")
    assert not libcrypt.fits(hashed, b"Hello world")


@settings(max_examples=40)
@given(
    st.sampled_from([5, 6]),
    st.text(string.ascii_letters + string.digits + "./-_=", min_size=1, max_size=16),
    st.sampled_from(["", "rounds=1000$", "rounds=1234$"]),
    st.binary(min_size=1, max_size=200).map(lambda text: re.sub(rb"[\0\r\n]", b"?", text)),
)
def test_every_password_that_openssl_hashed_fits(kind, salt, rounds, password):
    hashed = openssl(kind, rounds + salt.replace("rounds=", "r"), password)
    assert libcrypt.problem(hashed) == ""
    assert libcrypt.fits(hashed, password)
    assert not libcrypt.fits(hashed, password[:-1])


@pytest.mark.skipif(
    not shutil.which("mkpasswd"), reason="mkpasswd (package whois) is not installed"
)
@pytest.mark.parametrize("method", ["sha-512", "sha-256"])
@pytest.mark.parametrize("rounds", [None, "1000", "7000"])
def test_lines_of_mkpasswd(tmp_path, method, rounds):
    words = ["mkpasswd", "-m", method, "-s", *(("-R", rounds) if rounds else ())]
    made = subprocess.run(words, input="gehêim", text=True, capture_output=True, check=True)
    users = tmp_path / "users"
    users.write_text(f"ann:{made.stdout}")
    assert file.problems(f"file://{users}") == []
    assert ask(users, ("ann", "gehêim"), ("ann", "gehêim "), ("bob", "gehêim")) == [
        *(True, False, False)
    ]


@pytest.mark.parametrize("kind", [5, 6])
def test_salts_are_taken_as_libcrypt_takes_them(kind):
    good = openssl(kind, "salt", "x").split("$")[-1]
    for character in map(chr, range(1, 127)):
        salt = f"a{character}b"
        if character != "$":
            hashed = crypt(b"x", f"${kind}${salt}$")
            takes = not hashed.startswith("*")
            assert (libcrypt.problem(f"${kind}${salt}${good}") == "") == takes, character
            assert not takes or libcrypt.fits(hashed, b"x")


@pytest.mark.parametrize(
    "form",
    [
        *("$6${}", "$6$$", "$6$salt${}a", "$6$saltsaltsaltsalts${}", "$6$salt$${}", "$6$sält${}"),
        *("$6$rounds=${}", "$6$rounds=1000{}", "$6$rounds=01000$salt${}", "$6$rounds=-1$salt${}"),
        *("$6$rounds=5e3$salt${}", "$6$salt$rounds=1000${}", "$5$salt${}", "$6$salt$*0", "$6$"),
        *("$6$rounds=1000$rounds=1000${}", "$6$salt${}\0", "$6$salt$", "$7$salt${}", "$6salt${}"),
    ],
)
def test_what_is_no_whole_hash_is_named_and_nobodys(tmp_path, form):
    hashed = form.format(openssl(6, "salt", "x").split("$")[-1])
    users = tmp_path / "users"
    users.write_text(f"eve:{hashed}\n", "utf-8")
    (problem,) = file.problems(f"file://{users}")
    assert problem.startswith(f"{users}, line 1: eve: ")
    assert ask(users, ("eve", "x")) == [False]


def test_a_hash_of_the_wrong_length_or_letters_is_named():
    for kind in (5, 6):
        whole = openssl(kind, "salt", "x")
        assert libcrypt.problem(whole) == ""
        for hashed in (whole[:-1], whole + ".", whole[:-1] + "z", whole[:-2] + "-" + whole[-1]):
            assert libcrypt.problem(hashed) == "not a whole $5$ or $6$ hash", hashed


@pytest.mark.parametrize(
    ("rounds", "good"),
    [
        *(("1", False), ("999", False), ("1000", True), ("5000", True), ("1000000", True)),
        *(("1000001", False), ("999999999", False), ("9" * 5000, False)),
    ],
)
def test_rounds_that_nobody_can_wait_for_are_named_and_refused(tmp_path, rounds, good):
    form = openssl(6, "salt", "x").replace("salt", "rounds={}$salt")
    users = tmp_path / "users"
    users.write_text(f"eve:{form.format(rounds)}\nann:{argon('a')}\n")
    told = check(users)
    named = f"{users}, line 1: eve: rounds= must be 1000 to 1000000"
    assert (named in told.stderr) is not good
    assert told.returncode == 0
    if not good:
        begun = time.monotonic()
        assert ask(users, ("eve", "x"), ("ann", "a")) == [False, True]
        assert time.monotonic() - begun < 5


def test_a_password_that_libcrypt_would_cut_fits_nothing(tmp_path):
    long = "x" * libcrypt.LONGEST
    users = tmp_path / "users"
    hashed = crypt(long.encode(), "$6$salt$")
    users.write_text(f"ann:{openssl(6, 'salt', 'x')}\nbob:{hashed}\n")
    right, nul = [("ann", "x"), ("bob", long)], [("ann", "x\0"), ("ann", "x\0x"), ("ann", "\0x")]
    assert ask(users, *right, *nul) == [True] * 2 + [False] * 3
    assert ask(users, ("bob", long + "x"), ("bob", long[:-1]), ("bob", "x" * 9000)) == [False] * 3


def test_others_have_their_turn_while_a_password_is_hashed(tmp_path):
    """The loop goes round: a hash of 1,000,000 rounds takes far longer than anyone may wait.

    A busy machine may stop the whole process once; what holds the loop does so every time.
    """
    users = tmp_path / "users"
    users.write_text(f"ann:{openssl(6, 'rounds=1000000$salt', 'x')}\n")

    async def go_round(waits):
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0)
            waits.append(time.monotonic() - begun)

    async def run():
        """The longest wait while one password is hashed."""
        waits = []
        made = file.File(f"file://{users}")
        rounds = asyncio.create_task(go_round(waits))
        begun = time.monotonic()
        assert await made.check("ann", b"x")
        rounds.cancel()
        assert time.monotonic() - begun > 3 * NO_TURN
        return max(waits)

    assert any(asyncio.run(run()) < 3 * NO_TURN for _ in range(3))


def test_the_daemon_takes_them(tmp_path, start_daemon):
    users = tmp_path / "users"
    users.write_text(f"ann:{openssl(6, 'salt', 'a')}\nbob:{openssl(5, 'salt', 'b')}\n")
    daemon = start_daemon(smtp_auth=f"file://{users}", smtp_insecure_auth="true")
    tried = [("ann", "a"), ("bob", "b"), ("ann", "b"), ("ann", ""), ("ann", "a" * 600)]
    assert [auth(daemon.port, *pair)[0].code for pair in tried] == [235, 235, 535, 535, 535]
    assert "$6$" not in daemon.log


@pytest.mark.usefixtures("broken")
def test_without_libcrypt_only_a_file_that_needs_it_is_an_error(tmp_path, start_daemon):
    needs = "smtp-auth: $5$ and $6$ hashes need libcrypt.so.1: install the package libcrypt1"
    users = tmp_path / "users"
    line = f"ann:{openssl(6, 'salt', 'a')}\n"
    users.write_text(line)
    done = check(users)
    assert done.returncode == 2
    assert needs in done.stderr
    users.write_text(f"bob:{argon('b')}\n")
    assert check(users).returncode == 0
    daemon = start_daemon(smtp_auth=f"file://{users}", smtp_insecure_auth="true")
    users.write_text(f"bob:{argon('b')}\n" + line)
    until(lambda: auth(daemon.port, "ann", "a")[0].raw == UNAVAILABLE)  # not "wrong password"
    assert auth(daemon.port, "bob", "b")[0].code == 235
    assert f"clients cannot authenticate: {needs[11:]}" in daemon.log
