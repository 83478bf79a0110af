"""http: three pages for whoever watches, whatever clients do; and what a real daemon shows."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.process import http
from fastsmtp.process.http import Site
from tests.support import held
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.rabbitmq import declare
from tests.support.watcher import METRICS, SETTINGS, Scrape, get
from tests.support.wire import Wire

HOSTILE = [
    b"",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /metrics\r\n\r\n",
    b"GET /metrics HTTP/2.0\r\n\r\n",
    b"GET / metrics HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 10_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 2000 + b"\r\n",
    b"GET /" + b"x" * 100_000,
    b"EHLO me\r\n\r\n",
]


FLOOD = """
import contextlib, socket, sys, threading

def scrape():
    while True:
        with contextlib.suppress(OSError), socket.create_connection(
            ("127.0.0.1", int(sys.argv[1]))
        ) as client:
            client.sendall(b"GET /metrics HTTP/1.1\\r\\n\\r\\n")
            client.recv(1000)

for _ in range(30):
    threading.Thread(target=scrape).start()
"""


def healthy():
    return Metrics().snapshot(Availability(1))


def with_site(use, collect=healthy):
    """Run `use(port)` while a site listens there, telling what `collect` gives."""

    async def collected():
        return collect()

    async def main():
        site = Site(collected)
        port = free_port()
        async with site.moved(("127.0.0.1", port)):
            pass
        try:
            return await use(port)
        finally:
            site.close()

    return asyncio.run(main())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


async def ask(port, request, end=False):
    """Everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        return await reader.read()
    except ConnectionResetError:  # what it did not want to read makes the kernel say so
        return b""
    finally:
        writer.close()


def asked(request, collect=healthy, end=False):
    return with_site(lambda port: ask(port, request, end), collect)


def status(answer):
    return int(answer.split(b" ", 2)[1])


def test_the_pages():
    answer = asked(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"\nfastsmtp_messages_total 0.0\n" in body
    assert asked(b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nalive\n")
    assert asked(b"GET /ready?full=1 HTTP/1.0\n\n").endswith(b"\r\n\r\nready\n")
    for path in (b"/", b"/metrics/", b"/metricsx", b"//metrics", b"*", b"http://x/metrics"):
        assert status(asked(b"GET %b HTTP/1.1\r\n\r\n" % path)) == 404


def test_other_methods():
    head, _, body = asked(b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert (status(head), body) == (200, b"")
    answer = asked(b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert status(answer) == 405
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize("request_", HOSTILE)
def test_what_is_no_request_is_refused_and_others_are_served(request_):
    async def use(port):
        answer = await ask(port, request_, end=True)
        return answer, await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")

    answer, after = with_site(use)
    assert not answer or status(answer) == 400
    assert status(after) == 200


def test_slow_clients_are_left(monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 2.0)

    async def use(port):
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        clients[1][1].write(b"GET /metr")
        async with asyncio.timeout(3 * http.TIMEOUT):
            with contextlib.suppress(ConnectionResetError):
                while True:  # an octet now and then is no excuse
                    clients[2][1].write(b"x")
                    await clients[2][1].drain()
                    await asyncio.sleep(0.02)  # the rate of the client
            for reader, writer in clients[:2]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
            clients[2][1].close()

    with_site(use)


def test_who_does_not_read_the_answer_is_left(monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    many = {"replies": {f"250 2.0.0 {'x' * 3000}{n}": n for n in range(10_000)}}

    async def use(port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            client.settimeout(30)
            await asyncio.sleep(3 * http.TIMEOUT)  # longer than a client may take
            # The loop goes on: it may be at work on the answer still.
            answer = await asyncio.to_thread(
                lambda: b"".join(iter(lambda: client.recv(1 << 20), b""))
            )
        assert status(answer) == 200
        assert len(answer) < int(answer.split(b"Content-Length: ")[1].split(b"\r\n")[0])

    with_site(use, lambda: many)


def test_the_longest_silent_client_gives_way_to_a_new_one():
    async def use(port):
        count = http.MAX_IDLE + 2
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        answers = [await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")]
        async with asyncio.timeout(http.TIMEOUT / 2):
            for reader, _ in silent[:3]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
        silent[3][1].write(b"GET /ready HTTP/1.1\r\n\r\n")
        answers.append(await silent[3][0].read())
        for _, writer in silent:
            writer.close()
        return [status(answer) for answer in answers]

    assert with_site(use) == [200, 200]


def test_whoever_asks_while_workers_are_asked_gets_the_same_and_too_many_are_turned_away():
    asked_workers = 0

    async def main():
        told = asyncio.Event()

        async def collect():
            nonlocal asked_workers
            asked_workers += 1
            await told.wait()
            return healthy()

        site = Site(collect)
        port = free_port()
        async with site.moved(("127.0.0.1", port)):
            pass
        waiting = [
            asyncio.create_task(ask(port, b"GET /ready HTTP/1.1\r\n\r\n"))
            for _ in range(http.MAX_BUSY + 1)
        ]
        done, rest = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        health = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
        told.set()
        answers = await asyncio.gather(*rest)
        site.close()
        refused = [status(each.result()) for each in done]
        return refused, status(health), {status(answer) for answer in answers}

    assert asyncio.run(main()) == ([503], 200, {200})
    assert asked_workers == 1


def test_an_error_is_500_and_the_process_is_alive(caplog):
    def broken():
        raise RuntimeError("secret")

    answer = asked(b"GET /metrics HTTP/1.1\r\n\r\n", broken)
    assert status(answer) == 500
    assert b"secret" not in answer
    assert "secret" in caplog.text
    assert status(asked(b"GET /ready HTTP/1.1\r\n\r\n", broken)) == 500
    assert status(asked(b"GET /healthz HTTP/1.1\r\n\r\n", broken)) == 200


def test_ready_says_why_not():
    answer = asked(b"GET /ready HTTP/1.1\r\n\r\n", dict)
    assert (status(answer), answer.splitlines()[-1]) == (503, b"no worker is up")


def test_a_site_moves_when_what_is_begun_ends_well():
    async def main():
        first, second = free_port(), free_port()

        async def collect():
            return healthy()

        async def answers(port):
            try:
                return status(await ask(port, b"GET /ready HTTP/1.1\r\n\r\n")) == 200
            except ConnectionRefusedError:
                return False

        site = Site(collect)
        async with site.moved(("127.0.0.1", first)):
            assert await answers(first)
        with contextlib.suppress(KeyError):
            async with site.moved(("127.0.0.1", second)):
                raise KeyError
        assert [await answers(first), await answers(second)] == [True, False]
        with socket.create_server(("127.0.0.1", second)):
            with pytest.raises(OSError, match=rf"metrics-address: 127\.0\.0\.1:{second}: Address"):
                async with site.moved(("127.0.0.1", second)):
                    pass
            assert await answers(first)
        async with site.moved(("127.0.0.1", second)):
            pass
        assert [await answers(first), await answers(second)] == [False, True]
        async with site.moved(None):
            pass
        assert not await answers(second)

    asyncio.run(main())


# With a real daemon


def test_a_daemon_shows_what_came_in(start_daemon):
    daemon = start_daemon(smtp_threads=2, smtp_maxsize="64KB", **SETTINGS)
    recipients = ["a@example.org", "b@example.org"]
    first = b"X-MQ-Priority: high\r\n\r\n"
    second = b"X-MQ-Colour: red\r\nX-MQ-Mime: x\r\n\r\n"
    with Wire(daemon.port) as client, Wire(daemon.port):
        client.ehlo()
        assert client.mail(first, recipients=recipients).code == 250
        assert client.mail(second).code == 250
        assert client.mail(b"x" * 70_000 + b"\r\n").code == 552
        assert client.mail(b"Received: by me\r\n" * 101 + b"\r\n").code == 554
        assert client.command("WHAT").code == 500
        assert client.command("RCPT TO:<b@example.org>").code == 503
        seen = Scrape(daemon)
    assert seen("fastsmtp_messages_total") == 2
    assert seen("fastsmtp_recipients_total") == 3
    assert seen("fastsmtp_content_bytes_total") == len(first + second)
    assert seen("fastsmtp_rejected_messages_total") == 2
    assert seen("fastsmtp_rejected_messages_total", code="552", reason="too_large") == 1
    assert seen("fastsmtp_rejected_messages_total", status="5.4.6", reason="loop") == 1
    assert seen("fastsmtp_replies_total", reason="queued") == 2
    assert seen("fastsmtp_replies_total", reason="go_ahead", code="354") == 4
    assert seen("fastsmtp_replies_total", reason="unknown_command") == 1
    assert seen("fastsmtp_replies_total", reason="mail_first") == 1
    assert seen("fastsmtp_malformed_headers_total") == 1
    assert seen("fastsmtp_unknown_headers_total") == 1
    assert seen("fastsmtp_reserved_headers_total") == 1
    assert seen("fastsmtp_reply_seconds_count") == 4
    assert seen("fastsmtp_commit_seconds_count") >= 2
    assert seen("fastsmtp_queue_messages") == 3
    assert seen("fastsmtp_queue_bytes") > 0
    assert seen("fastsmtp_connections_open") == 2
    assert seen("fastsmtp_messages_in_flight") == 0
    assert seen("fastsmtp_workers") == seen("fastsmtp_workers_accepting") == 2
    until(lambda: Scrape(daemon)("fastsmtp_connections_open") == 0)
    assert Scrape(daemon)("fastsmtp_connections_total") == 2


def ended(daemon):
    """Its exit status."""
    status = daemon.process.wait(10)
    daemon.process = None
    return status


def worker_of(daemon):
    """Its process id."""
    pid = daemon.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_counts_outlive_their_worker_and_a_silent_one_is_not_ready(start_daemon):
    daemon = start_daemon(**SETTINGS)
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    before = Scrape(daemon)
    assert (before("fastsmtp_messages_total"), before("fastsmtp_worker_restarts_total")) == (1, 0)
    victim = worker_of(daemon)
    os.kill(victim, signal.SIGSTOP)
    assert get(daemon, "/ready") == (503, "no worker is up\n")
    assert get(daemon, "/healthz") == (200, "alive\n")
    os.kill(victim, signal.SIGKILL)
    until(lambda: get(daemon, "/ready")[0] == 200)
    after = Scrape(daemon)
    assert (after("fastsmtp_messages_total"), after("fastsmtp_worker_restarts_total")) == (1, 1)
    assert after("fastsmtp_workers") == 1


def test_ready_follows_the_broker(make_broker, start_daemon):
    broker = make_broker()
    daemon = start_daemon(rabbitmq_address=broker.url, **SETTINGS)
    with Wire(daemon.port) as client:
        assert get(daemon, "/ready")[0] == 503
        seen = Scrape(daemon)
        assert seen("fastsmtp_broker_workers", state="away") == 1
        assert seen("fastsmtp_broker_workers", state="up") == 0
        client.ehlo()
        assert client.command("MAIL FROM:<a@example.com>").code == 451
        assert Scrape(daemon)("fastsmtp_replies_total", reason="not_stored") == 1

        broker.start()
        until(lambda: get(daemon, "/ready") == (200, "ready\n"))
        assert client.mail(b"Hi\r\n").code == 250
        seen = Scrape(daemon)
        assert seen("fastsmtp_broker_workers", state="up") == 1
        assert seen("fastsmtp_broker_confirmed_total") == 1
        assert seen("fastsmtp_confirm_seconds_count") == 1
        assert 0 < seen("fastsmtp_confirm_seconds_sum") <= seen("fastsmtp_reply_seconds_sum")
        with pytest.raises(KeyError):
            seen("fastsmtp_queue_messages")

        broker.kill()
        until(lambda: get(daemon, "/ready")[0] == 503)
        assert get(daemon, "/healthz")[0] == 200


def test_a_port_in_use_is_told_at_the_start(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(tmp_path, metrics_address=f"127.0.0.1:{port}")
        daemon.launch()
        try:
            assert ended(daemon) == 1
        finally:
            daemon.kill()
    assert f"error metrics-address: 127.0.0.1:{port}: Address already in use" in daemon.log


def test_who_stops_is_not_ready(tmp_path):
    daemon = Daemon(tmp_path, (*held.COMMAND, "hold"), smtp_grace=20, **SETTINGS)
    daemon.start()
    try:
        with Wire(daemon.port) as client:
            client.ehlo()
            client.envelope("a@example.com", ["b@example.org"])
            client.send(b"BDAT 4 LAST\r\nHi\r\n")
            until(lambda: Scrape(daemon)("fastsmtp_messages_in_flight") == 1)
            assert get(daemon, "/ready")[0] == 200
            daemon.process.send_signal(signal.SIGTERM)
            until(lambda: get(daemon, "/ready")[0] == 503)
            assert get(daemon, "/ready") == (503, "fastsmtp is stopping\n")
            assert Scrape(daemon)("fastsmtp_messages_in_flight") == 1
            os.kill(worker_of(daemon), signal.SIGUSR1)
            assert client.reply().code == 250
        assert ended(daemon) == 0
    finally:
        daemon.kill()


def test_silent_clients_and_a_flood_of_scrapes_do_not_delay_health(start_daemon):
    daemon = start_daemon(**SETTINGS)
    port = int(METRICS.findall(daemon.log)[-1])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(http.MAX_IDLE + 50)]
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(port)])
    took = []
    try:
        for _ in range(20):
            begun = time.monotonic()
            assert get(daemon, "/healthz") == (200, "alive\n")
            took.append(time.monotonic() - begun)
            time.sleep(0.05)  # the rate of the probes
        assert flood.poll() is None
        assert sorted(took)[15] < 1, took  # a busy machine may hold up a few
    finally:
        flood.kill()
        flood.wait()
        for client in silent:
            client.close()


def test_started_waits_for_the_broker_once(make_broker, start_daemon):
    broker = make_broker()
    daemon = start_daemon(rabbitmq_address=broker.url, smtp_threads=2, **SETTINGS)
    status_, said = get(daemon, "/started")
    assert status_ == 503
    assert said.startswith("workers that were never ready: 2: RabbitMQ cannot be reached: tried ")
    broker.start()
    until(lambda: get(daemon, "/started") == (200, "started\n"))
    broker.kill()
    until(lambda: get(daemon, "/ready")[0] == 503)
    assert get(daemon, "/started") == (200, "started\n")


def test_a_reload_moves_the_page(start_daemon):
    daemon = start_daemon(**SETTINGS)
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    assert Scrape(daemon)("fastsmtp_messages_total") == 1
    port = free_port()
    daemon.config.write_text(daemon.config.read_text() + f"metrics-address: 127.0.0.1:{port}\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: f"http://127.0.0.1:{port}/metrics" in daemon.log)
    until(lambda: "reloaded" in daemon.log)
    until(lambda: Scrape(daemon)("fastsmtp_workers") == 1)
    assert Scrape(daemon)("fastsmtp_messages_total") == 1
    assert get(daemon, "/ready")[0] == 200


def test_ready_names_a_queue_that_is_gone_and_is_back_when_the_queue_is(broker, start_daemon):
    queue = "test-ready-gone"
    asyncio.run(declare(broker.url, queue))
    daemon = start_daemon(
        rabbitmq_address=broker.url, rabbitmq_inbox=queue, smtp_threads=2, **SETTINGS
    )
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        broker.ctl("delete_queue", queue)
        for _ in range(3):
            assert client.mail(b"Hi\r\n").code == 451
        assert get(daemon, "/ready") == (
            503,
            f"mail is not stored: unroutable: queue '{queue}' is missing (312 NO_ROUTE)\n",
        )
        assert get(daemon, "/healthz")[0] == 200
        asyncio.run(declare(broker.url, queue))
        until(lambda: get(daemon, "/ready") == (200, "ready\n"), 15)  # five seconds are promised
        assert client.mail(b"Hi\r\n").code == 250
    assert len(re.findall(r"warning unroutable: .*is missing", daemon.log)) == 1
    broker.ctl("delete_queue", queue)


def test_ready_says_why_the_broker_takes_no_mail(broker, start_daemon):
    url = broker.url.replace("guest:guest", "guest:hunter2")
    daemon = start_daemon(rabbitmq_address=url, **SETTINGS)
    status_, said = get(daemon, "/ready")
    assert status_ == 503
    assert said.startswith("mail is refused for now: RabbitMQ refused the connection: tried amqp")
    assert "ACCESS_REFUSED" in said
    assert "hunter2" not in said + daemon.log
