"""How a broker is reached: TLS, names without secrets."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastsmtp import replies
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq.cluster import tls_context
from fastsmtp.sinks.rabbitmq.failover import public
from tests.support.rabbitmq import Broker, drain, free_ports
from tests.support.sink import on_uvloop, opened


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An authority, and a certificate of it for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("pki")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             # Python 3.13 is strict: what may sign must say so.
             "-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign")  # fmt: skip
    openssl(folder, "req", "-x509", *curve, "-subj", "/CN=authority", "-keyout", "ca.key",
            "-out", "ca.pem")  # fmt: skip
    openssl(folder, "req", "-x509", *curve, "-subj", "/CN=peer", "-CA", "ca.pem", "-CAkey",
            "ca.key", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "peer.key",
            "-out", "peer.pem")  # fmt: skip
    return SimpleNamespace(ca=str(folder / "ca.pem"), certificate=str(folder / "peer.pem"),
                           key=str(folder / "peer.key"))  # fmt: skip


@pytest.fixture
def tls_broker(make_broker: Callable[..., Broker], pki: SimpleNamespace) -> Broker:
    """A broker that wants to see a client's certificate; `url` is its amqps address."""
    (port,) = free_ports(1)
    broker = make_broker(
        **{
            "listeners.ssl.1": f"127.0.0.1:{port}",
            "ssl_options.cacertfile": pki.ca,
            "ssl_options.certfile": pki.certificate,
            "ssl_options.keyfile": pki.key,
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "true",
        }
    )
    broker.start()
    broker.ctl("await_startup")  # its other port opens a moment later
    broker.tls_url = f"amqps://guest:guest@127.0.0.1:{port}/"
    return broker


@on_uvloop
async def test_amqps(tls_broker: Broker, pki: SimpleNamespace, queue: str) -> None:
    ours = {"rabbitmq_certificate": pki.certificate, "rabbitmq_key": pki.key}
    url = tls_broker.tls_url
    async with opened(url, queue, rabbitmq_ca=pki.ca, **ours) as rabbit:
        assert await rabbit.put(b"x" * 3_000_000) is None
    async with opened(url, queue, rabbitmq_verify=False, **ours) as rabbit:
        assert await rabbit.put(b"y") is None
    # The broker's authority is not known.
    async with opened(url, queue, **ours) as rabbit:
        assert await rabbit.put(b"z") is replies.NOT_STORED
    # We show no certificate.
    async with opened(url, queue, rabbitmq_ca=pki.ca) as rabbit:
        assert await rabbit.put(b"z") is replies.NOT_STORED
    found = await drain(tls_broker.url, queue)
    assert [len(message.body) for message in found] == [3_000_000, 1]


@on_uvloop
async def test_a_port_with_tls_is_told(
    tls_broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tls_broker.tls_url.replace("amqps:", "amqp:"), queue) as rabbit:
        assert await rabbit.put(b"x") is replies.NOT_STORED
    assert "the port answers with TLS: use amqps://" in caplog.text


def test_files_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    for key in ("rabbitmq_ca", "rabbitmq_certificate"):
        with pytest.raises(OSError, match="No such file"):
            tls_context(Settings(**{key: missing}))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("amqp://localhost/", "amqp://localhost/"),
        ("amqp://user:secret@host:5672/%2Fmail", "amqp://user@host:5672/%2Fmail"),
        ("amqps://user:s%2Fecret@[::1]/?keyfile=secret", "amqps://user@[::1]/"),
    ],
)
def test_names_hold_no_secret(address: str, name: str) -> None:
    assert public(address) == name
