"""docs/tls.md: each configuration in it works as it stands, but for its ports and its folder."""

import re
import ssl

import argon2
import pytest

from fastsmtp.process import config
from tests.support import certificates
from tests.support.daemon import ROOT
from tests.support.wire import Wire

PAGE = (ROOT / "docs" / "tls.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(smtp-.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMES = ["mx1.example.com", "mail.example.org"]


def test_every_setting_of_tls_is_there():
    keys = {line.split(":")[0] for block in BLOCKS for line in block.splitlines()}
    assert keys == {
        "smtp-port",
        "smtp-secure-port",
        "smtp-certificate",
        "smtp-key",
        "smtp-tls-minimum",
        "smtp-ciphers",
    }
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_works(tmp_path, start_daemon, block, version):
    pairs = {name: certificates.make(tmp_path, name) for name in NAMES}
    lines = block.replace("/etc/fastsmtp", str(tmp_path)).splitlines()
    given = {key.replace("-", "_"): text.strip() for key, text in (x.split(":", 1) for x in lines)}
    ports = {key: 0 for key in given if key.endswith("_port")}
    daemon = start_daemon(**given | ports)
    names = [name for name in NAMES if name in block]
    assert names
    for name in names:
        trusting = certificates.client(pairs[name].certificate)
        trusting.minimum_version = trusting.maximum_version = version
        with Wire(daemon.port) as client:
            client.starttls(trusting, name)
            client.ehlo()
            assert client.mail(b"Hi\r\n").code == 250
        if daemon.tls_port:
            with Wire(daemon.tls_port, tls=trusting, name=name) as client:
                client.ehlo()
                assert client.mail(b"Hi\r\n").code == 250


def test_the_configuration_of_the_readme_is_good(tmp_path):
    block = re.search(r"## A real configuration.*?^```\n(.*?)^```", README, re.M | re.S)[1]
    certificates.make(tmp_path, "mx1.example.com")
    (tmp_path / "users").write_text(f"relay:{argon2.PasswordHasher().hash('secret')}\n")
    (tmp_path / "rabbitmq-url").write_text("amqp://me:secret@mq1,amqp://me:secret@mq2\n")
    path = tmp_path / "config.txt"
    path.write_text(block.replace("/etc/fastsmtp", str(tmp_path)))
    settings, warnings = config.load([str(path)], default_file=str(tmp_path / "none"))
    assert warnings == []
    assert settings.smtp_secure_port == (465,)
    assert settings.smtp_certificate == (str(tmp_path / "mx1.example.com.crt"),)
