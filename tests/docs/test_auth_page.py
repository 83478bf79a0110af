"""docs/auth.md: each configuration in it works as it stands, but for where its files are."""

import re
import smtplib
import subprocess

import pytest

from tests.support import certificates
from tests.support.daemon import COMMAND, ROOT

PAGE = (ROOT / "docs" / "auth.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(smtp-.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
USERS = {"relay": "pass:word", "alice": "wonderland", "bob": "builder"}


def test_every_kind_is_there():
    keys = {line.split(":")[0] for block in BLOCKS for line in block.splitlines()}
    assert {"smtp-username", "smtp-auth", "smtp-insecure-auth", "smtp-certificate"} <= keys
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS)
def test_it_works(tmp_path, start_daemon, block):
    pair = certificates.make(tmp_path)
    (tmp_path / "relay-password").write_text(USERS["relay"] + "\n")
    with (tmp_path / "users").open("wb") as users:
        typed = USERS["relay"].encode() + b"\n"
        subprocess.run([*COMMAND, "passwd", "relay"], input=typed, stdout=users, check=True)
    lines = block.replace("/etc/fastsmtp", str(tmp_path)).splitlines()
    given = {key.replace("-", "_"): text.strip() for key, text in (x.split(":", 1) for x in lines)}
    daemon = start_daemon(**given)
    expected = ["relay"] if "hardcoded" not in block else list(USERS)
    for user in expected:
        with smtplib.SMTP("127.0.0.1", daemon.port) as client:
            client.ehlo()
            if "smtp_certificate" in given:
                assert not client.has_extn("auth")
                assert client.docmd("AUTH PLAIN AGEAYg==")[0] == 538
                context = certificates.client(pair.certificate)
                context.check_hostname = False
                client.starttls(context=context)
                client.ehlo()
            assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
            assert client.mail("a@example.com")[0] == 530
            assert client.login(user, USERS[user])[0] == 235
            assert client.mail("a@example.com")[0] == 250
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        if "smtp_certificate" in given:
            client.starttls(context=context)
        client.ehlo()
        assert client.docmd("AUTH PLAIN AGEAYg==")[0] == 535
