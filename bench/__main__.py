"""`python -m bench`: every server of a path in turn, round after round, then the table."""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.load import measure, send
from bench.report import Expectation, Result, environment, table, write
from bench.servers import Aiosmtpd, Discarding, Fastsmtp, Server, SmtpSink
from tests.support import postfix, rabbitmq

WARM_UP = 2000
EXPECTATIONS = [
    Expectation(Discarding.name, SmtpSink.name, 1.3),
    Expectation(Fastsmtp.name, Aiosmtpd.name, 0.2),
]


def run(
    path: str, servers: Sequence[Server], messages: int, rounds: int, folder: Path
) -> list[Result]:
    """Start the servers, warm them up, then A B A B …; each round's work is checked."""
    results = [Result(path, server.name, server.answers, []) for server in servers]
    with ExitStack() as running:
        for server in servers:
            server.start()
            running.callback(server.stop)
            send(server.port, WARM_UP, folder)
            server.check(WARM_UP)
        for number in range(rounds):
            print(f"{path}: round {number + 1} of {rounds}", flush=True)
            for server, result in zip(servers, results, strict=True):
                result.rounds.append(measure(server.port, server.pid, messages, folder))
                server.check(messages)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20000, help="a server and round")
    options = parser.parse_args()
    if missing := postfix.MISSING or rabbitmq.MISSING:
        parser.exit(1, f"{missing}\n")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastsmtp-bench-")))
        load = (options.messages, options.rounds, folder)
        results = run("accept", [SmtpSink(), Discarding(folder)], *load)
        broker = rabbitmq.Broker()
        stack.callback(broker.close)
        broker.start()
        results += run("RabbitMQ", [Aiosmtpd(broker), Fastsmtp(broker, folder)], *load)
    facts = environment(options.messages, options.rounds)
    text = table(results, EXPECTATIONS, facts)
    print(f"\n{text}\n{write(results, text, facts)}")


if __name__ == "__main__":
    main()
