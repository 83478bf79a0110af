"""net/tls: what is said of certificates and keys, and how they change while mail comes in."""

import logging
import os
import pwd
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path

import pytest

from fastsmtp.net import tls
from fastsmtp.process import config
from fastsmtp.process.config import ConfigError
from tests.support import certificates
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

STOPPING = b"421 4.3.2 Service is stopping, try again\r\n"


def errors(*pairs, **settings):
    """What `check` says of a configuration with these certificates and keys."""
    options = [
        ("smtp-certificate", ";".join(str(each.certificate) for each in pairs)),
        ("smtp-key", ";".join(str(each.key) for each in pairs)),
        ("rabbitmq-address", "amqp://guest:guest@localhost/"),
        *((key.replace("_", "-"), str(value)) for key, value in settings.items()),
    ]
    try:
        config.load(options=options, default_file="/nonexistent")
    except ConfigError as error:
        return [line.removeprefix("command line: ") for line in error.errors]
    return []


# What check says


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_good_pair(tmp_path, kind):
    pair = certificates.make(tmp_path, kind=kind)
    assert errors(pair, smtp_secure_port="465", smtp_tls_minimum="1.3") == []


def test_files_that_are_not_there(tmp_path):
    pair = certificates.make(tmp_path)
    missing = tmp_path / "missing.pem"
    why = f"expected a file that can be read, found {missing}: No such file or directory"
    assert errors(pair._replace(certificate=missing)) == [f"smtp-certificate: {why}"]
    assert errors(pair._replace(key=missing)) == [f"smtp-key: {why}"]


def test_not_as_many_keys_as_certificates(tmp_path):
    one, other = certificates.make(tmp_path, "a.example"), certificates.make(tmp_path, "b.example")
    expected = "expected as many files as smtp-certificate has"
    assert errors(one, other, smtp_key=one.key) == [f"smtp-key: {expected} (2), found 1"]
    assert errors(one, smtp_key=f"{one.key};{other.key}") == [f"smtp-key: {expected} (1), found 2"]
    assert errors(one, smtp_key="") == [f"smtp-key: {expected} (1), found 0"]
    assert errors(one, smtp_certificate="") == [f"smtp-key: {expected} (0), found 1"]


@pytest.mark.parametrize(("kind", "other"), [("ec", "ec"), ("rsa", "rsa"), ("ec", "rsa")])
def test_the_key_of_another_certificate(tmp_path, kind, other):
    good = certificates.make(tmp_path, "good.example")
    one = certificates.make(tmp_path, "a.example", kind=kind)
    key = certificates.make(tmp_path, "b.example", kind=other).key
    assert errors(good, one._replace(key=key)) == [
        f"smtp-key: {key} is not the key of {one.certificate}"
    ]


def test_a_certificate_out_of_its_time(tmp_path):
    late = certificates.make(tmp_path, "late.example", begins=-30, ends=-1)
    early = certificates.make(tmp_path, "early.example", begins=1)
    found = errors(late, early)
    assert len(found) == 2
    assert found[0].startswith(
        f"smtp-certificate: {late.certificate} has expired: it was valid until 20"
    )
    assert found[1].startswith(
        f"smtp-certificate: {early.certificate} is not valid yet: it will be from 20"
    )
    assert found[0].endswith(" UTC")


def test_files_with_something_else_in_them(tmp_path):
    pair = certificates.make(tmp_path)
    swapped = certificates.Files(pair.key, pair.certificate)
    assert errors(swapped) == [
        f"smtp-certificate: expected a certificate and its chain in PEM, found {pair.key}"
    ]
    assert errors(pair._replace(key=pair.certificate)) == [
        f"smtp-key: expected a private key in PEM, found {pair.certificate}"
    ]
    half = tmp_path / "half.pem"
    half.write_bytes(pair.key.read_bytes()[:100])
    assert errors(pair._replace(key=half)) == [
        f"smtp-key: expected a private key in PEM, found {half}"
    ]


def test_a_key_with_a_passphrase_asks_nobody(tmp_path):
    pair = certificates.make(tmp_path, passphrase=b"secret")
    assert errors(pair) == [
        f"smtp-key: {pair.key} is encrypted: expected a key without a passphrase"
    ]


def test_ciphers_that_are_none(tmp_path):
    why = "smtp-ciphers: expected an OpenSSL cipher list, found 'NONSENSE': it names none"
    assert errors(certificates.make(tmp_path), smtp_ciphers="NONSENSE") == [why]
    assert errors(smtp_ciphers="NONSENSE") == [why]


def test_one_port_cannot_be_both(tmp_path):
    found = errors(certificates.make(tmp_path), smtp_port="25,465", smtp_secure_port="465")
    assert found == ["smtp-secure-port: port 465 cannot be plain and TLS at once"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_key_that_the_user_cannot_read():
    folder = Path(tempfile.mkdtemp(prefix="fastsmtp-certificates-"))
    try:
        folder.chmod(0o755)
        pair = certificates.make(folder)
        pair.key.chmod(0o600)
        assert errors(pair, user="nobody") == [
            "smtp-key: expected a file that can be read by nobody, "
            f"found {pair.key}: Permission denied"
        ]
        os.chown(pair.key, pwd.getpwnam("nobody").pw_uid, -1)
        assert errors(pair, user="nobody") == []
    finally:
        shutil.rmtree(folder)


def test_the_ready_line_says_how_and_until_when(start_daemon, tmp_path):
    pairs = [certificates.make(tmp_path, name, ends=30) for name in ("mx.example.com", "b.example")]
    daemon = start_daemon(
        smtp_secure_port=0,
        smtp_certificate=f"{pairs[0].certificate};{pairs[1].certificate}",
        smtp_key=f"{pairs[0].key};{pairs[1].key}",
    )
    ends = certificates.ends(pairs[0])
    assert (
        f"; TLS: STARTTLS and port {daemon.tls_port}, mx.example.com until {ends}, "
        f"b.example until {ends}; AUTH: "
    ) in daemon.log


def test_a_server_without_a_plain_port(start_daemon, tmp_path):
    pair = certificates.make(tmp_path)
    daemon = start_daemon(smtp_port="none", smtp_secure_port=0, **pair.settings)
    assert f"; TLS: port {daemon.tls_port}, mx.example.com until " in daemon.log
    trusting = certificates.client(pair.certificate)
    with Wire(daemon.tls_port, tls=trusting) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250


# A change on the disk


class Watched:
    """A listener that looks at its files all the time."""

    def __init__(self, tmp_path, monkeypatch, caplog, **settings):
        monkeypatch.setattr(tls, "LOOK_INTERVAL", 0.05)
        caplog.set_level(logging.INFO, "fastsmtp.net.tls")
        self.caplog = caplog
        self.folder = tmp_path
        self.pair = certificates.make(tmp_path, file="used")
        self.inside = Inside(
            smtp_certificate=(str(self.pair.certificate),), smtp_key=(str(self.pair.key),)
        )

    def new(self, **about):
        """Another pair, in files of its own."""
        return certificates.make(self.folder, file="new", **about)

    def put(self, *, certificate=None, key=None):
        """In place of the file that is used, as `mv` does."""
        for source, target in ((certificate, self.pair.certificate), (key, self.pair.key)):
            if source is not None:
                os.replace(shutil.copy(source, f"{target}.part"), target)

    @property
    def told(self):
        return [(each.levelname, each.getMessage()) for each in self.caplog.records]

    def presented(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.inside.tls_port), 10) as raw,
            context.wrap_socket(raw) as client,
        ):
            return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True))


@pytest.fixture
def watched(tmp_path, monkeypatch, caplog):
    return Watched(tmp_path, monkeypatch, caplog)


def test_a_change_is_noticed_within_a_minute():
    assert 2 * tls.LOOK_INTERVAL < 60


def test_a_certificate_is_swapped_under_load_and_nobody_is_dropped(watched):
    old = watched.pair.certificate.read_text()
    new = watched.new()
    stop = threading.Event()
    seen, failures = set(), []

    def load():
        try:
            while not stop.is_set():
                seen.add(watched.presented())
        except Exception as error:
            failures.append(error)

    with watched.inside as server:
        server.sink.auto = True
        kept = Wire(server.tls_port, tls=certificates.client(watched.pair.certificate))
        upgraded = Wire(server.port)
        upgraded.starttls(certificates.client(watched.pair.certificate))
        kept.ehlo(), upgraded.ehlo()
        kept.envelope("a@example.com", ["b@example.org"])
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: seen)
        watched.put(certificate=new.certificate, key=new.key)
        until(lambda: new.certificate.read_text() in seen)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert seen == {old, new.certificate.read_text()}
        assert watched.presented() == new.certificate.read_text()
        assert kept.data(b"Hi\r\n").code == 250
        assert upgraded.mail(b"Hi\r\n").code == 250
        kept.close(), upgraded.close()
    assert watched.told == [
        ("INFO", f"the certificate has changed: mx.example.com until {certificates.ends(new)}")
    ]


def test_a_hundred_certificates_one_after_the_other_fail_no_handshake(watched, monkeypatch):
    monkeypatch.setattr(tls, "LOOK_INTERVAL", 0.01)
    stop = threading.Event()
    seen, failures = [], []

    def load():
        while not stop.is_set():
            try:
                seen.append(watched.presented())
            except OSError as error:
                failures.append(error)

    with watched.inside:
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            new = watched.new()
            watched.put(certificate=new.certificate, key=new.key)
            wanted, begun = new.certificate.read_text(), len(seen)
            until(lambda wanted=wanted, begun=begun: wanted in seen[begun:])
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(set(seen)) >= 100


def test_a_key_that_follows_its_certificate_later_is_waited_for(watched, monkeypatch):
    monkeypatch.setattr(tls, "LOOK_INTERVAL", 60)
    old, new = watched.pair.certificate.read_text(), watched.new()
    with watched.inside as server:
        look = server.listener._server.certificates._look
        watched.put(certificate=new.certificate)
        server.do(look)
        watched.put(key=new.key)
        server.do(look)
        assert watched.presented() == old
        server.do(look)
        assert watched.presented() == new.certificate.read_text()
    assert [level for level, _ in watched.told] == ["INFO"]


@pytest.mark.parametrize(
    ("about", "what", "why"),
    [
        ({}, ("certificate",), "is not the key of"),
        ({}, ("key",), "is not the key of"),
        ({"ends": -1, "begins": -3}, ("certificate", "key"), "has expired"),
        ({"begins": 1}, ("certificate", "key"), "is not valid yet"),
        ({"passphrase": b"secret"}, ("certificate", "key"), "is encrypted"),
    ],
)
def test_a_bad_one_is_refused_with_one_line_and_the_old_one_stays(watched, about, what, why):
    old = watched.pair.certificate.read_text()
    bad = watched.new(**about)
    with watched.inside:
        watched.put(**{name: getattr(bad, name) for name in what})
        until(lambda: watched.told)
        for _ in range(5):
            assert watched.presented() == old
            threading.Event().wait(0.05)
        ((level, line),) = watched.told
        assert level == "ERROR"
        assert line.startswith("the certificate has changed and is refused, the old one stays: ")
        assert why in line
        good = watched.new()
        watched.put(certificate=good.certificate, key=good.key)
        until(lambda: watched.presented() == good.certificate.read_text())
    assert [level for level, _ in watched.told] == ["ERROR", "INFO"]


def test_a_file_that_is_gone_changes_nothing(watched):
    old = watched.pair.certificate.read_text()
    with watched.inside:
        watched.pair.certificate.unlink()
        until(lambda: watched.told)
        assert watched.presented() == old
    ((level, line),) = watched.told
    assert level == "ERROR"
    assert line.endswith(f"{watched.pair.certificate}: No such file or directory")


def test_another_pair_of_several_is_swapped(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tls, "LOOK_INTERVAL", 0.05)
    pairs = [certificates.make(tmp_path, name) for name in ("mx.example.com", "b.example")]
    server = Inside(
        smtp_certificate=tuple(str(each.certificate) for each in pairs),
        smtp_key=tuple(str(each.key) for each in pairs),
    )
    with server:
        new = certificates.make(tmp_path, "b.example")

        def trusted():
            try:
                context = certificates.client(new.certificate)
                Wire(server.tls_port, tls=context, name="b.example").close()
            except ssl.SSLError:
                return False
            return True

        until(trusted)
        Wire(server.tls_port, tls=certificates.client(pairs[0].certificate)).close()
    assert caplog.text == ""


def test_a_reload_takes_another_certificate(start_daemon, tmp_path):
    old = certificates.make(tmp_path, file="old")
    new = certificates.make(tmp_path, file="new")
    late = certificates.make(tmp_path, file="late", begins=-2, ends=-1)
    port = lasting_port()
    daemon = start_daemon(
        smtp_port=lasting_port(), smtp_secure_port=port, smtp_grace=5, **old.settings
    )
    with Wire(port, tls=certificates.client(old.certificate)) as kept:
        status, said = daemon.reload(**late.settings)
        assert (status, "has expired" in said) == (2, True)
        assert kept.ehlo().code == 250
        status, said = daemon.reload(**new.settings)
        assert status == 0, said
        assert f"port {port}, mx.example.com until {certificates.ends(new)}" in said
        assert kept.reply().raw == STOPPING
        assert kept.hung_up()
    trusting = certificates.client(new.certificate)
    with Wire(port, tls=trusting) as direct, Wire(daemon.port) as upgraded:
        upgraded.starttls(trusting)
        for client in (direct, upgraded):
            client.ehlo()
            assert client.mail(b"Hi\r\n").code == 250


def test_a_port_does_not_change_its_kind_at_a_reload(start_daemon, tmp_path):
    pair = certificates.make(tmp_path)
    one, other = lasting_port(), lasting_port()
    daemon = start_daemon(smtp_port=one, smtp_secure_port=other, **pair.settings)
    status, said = daemon.reload(smtp_port=other, smtp_secure_port=one)
    assert (status, "nor between smtp-port and smtp-secure-port" in said) == (1, True), said
    with Wire(other, tls=certificates.client(pair.certificate)) as client:
        assert client.ehlo().code == 250


def test_a_worker_starts_with_a_certificate_that_has_expired_meanwhile(tmp_path):
    """`check` refuses it, but mail is worth more where it is there already."""
    pair = certificates.make(tmp_path, begins=-2, ends=-1)
    with (
        Inside(smtp_certificate=(str(pair.certificate),), smtp_key=(str(pair.key),)) as server,
        Wire(server.port) as client,
    ):
        context = certificates.client(pair.certificate)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context)
        assert client.ehlo().code == 250
