"""The workloads of the suite: who takes part, under which load, and what is expected."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.contenders import BrokerAlone, Contender, Disk, Smtp
from bench.ground import Ground
from bench.idle import CONNECTIONS, Idle
from bench.large import AmidTraffic
from bench.load import Load
from bench.pinned import PinnedBrokerAlone, PinnedSmtp
from bench.servers import Aiosmtpd, Discarding, Embedded, Fastsmtp, Peer, SmtpSink
from bench.verdicts import Expectation

KEPT_ALIVE = Load()
RECONNECT = Load(reconnect=True)
LARGE = Load(size=100_000, messages=3000)
FANNED_OUT = Load(size=20_000, recipients=10, messages=2000)
PIPELINED = Load(pipelined=True)
STARTTLS = Load(tls=True, reconnect=True)
TLS_KEPT = Load(tls=True)
ONE = Load(sessions=1)

WINDOW = 128
"""Publishes in flight at the ceiling."""
CEILING = BrokerAlone.title(WINDOW)
ALL: list[type[Peer]] = [Aiosmtpd]
BOTH: list[type[Peer]] = []
GO, NODE, AIOSMTPD, HARAKA = "go", "node", Aiosmtpd.name, "haraka"
NOT_PIPELINED = "fastsmtp, not pipelined: (a)"
CONFIRM = BrokerAlone.title(1)


class Workload(NamedTuple):
    """One table of the report."""

    letter: str
    name: str
    title: str
    contenders: Callable[[Ground], list[Contender]]
    expectations: list[Expectation]
    quick: bool = True  # part of `make bench-quick`
    rounds: int = 100  # at most
    warm_up: bool = True  # false: each round has servers of its own


def peers(
    ground: Ground, letter: str, kinds: Sequence[type[Peer]], load: Load, **options: Any
) -> list[Contender]:
    """Those that can run here, each with a queue of its own; of the others a note."""
    made: list[Contender] = []
    for kind in kinds:
        peer = kind(ground.broker, f"{letter}-{kind.__name__.lower()}", **options)
        if missing := peer.missing():
            ground.note(f"{kind.name}: {missing}")
        else:
            ground.versions |= peer.versions()
            made.append(Smtp(peer, load))
    return made


def own(ground: Ground, letter: str, **settings: object) -> Fastsmtp:
    """fastsmtp with a queue of its own."""
    return Fastsmtp(ground.broker, f"{letter}-fastsmtp", ground.folder, **settings)


def kept_alive(ground: Ground) -> list[Contender]:
    return [
        Smtp(own(ground, "a"), KEPT_ALIVE),
        *peers(ground, "a", ALL, KEPT_ALIVE),
        *(
            BrokerAlone(ground.broker, f"a-broker-{window}", KEPT_ALIVE.size, window)
            for window in (WINDOW, KEPT_ALIVE.sessions)
        ),
    ]


def discarding(load: Load) -> Callable[[Ground], list[Contender]]:
    return lambda ground: [
        Smtp(Discarding(ground.folder), load),
        Smtp(SmtpSink(), load),
        *peers(ground, "b", BOTH, load, discard=True),
    ]


def large(ground: Ground) -> list[Contender]:
    return [Smtp(own(ground, "d"), LARGE), *peers(ground, "d", ALL, LARGE)]


def fanned_out(ground: Ground) -> list[Contender]:
    return [Smtp(own(ground, "e"), FANNED_OUT), *peers(ground, "e", BOTH, FANNED_OUT)]


def pipelined(ground: Ground) -> list[Contender]:
    return [
        Smtp(own(ground, "f"), PIPELINED),
        Smtp(own(ground, "f-a"), KEPT_ALIVE, NOT_PIPELINED),
        *peers(ground, "f", BOTH, PIPELINED),
    ]


def encrypted(load: Load) -> Callable[[Ground], list[Contender]]:
    return lambda ground: [
        Smtp(own(ground, "g", **ground.certificate.settings), load),
        *peers(ground, "g", BOTH, load, tls=tuple(ground.certificate)),
    ]


def one_client(ground: Ground) -> list[Contender]:
    return [
        Smtp(own(ground, "h"), ONE),
        BrokerAlone(ground.broker, "h-broker", ONE.size, 1),
        *peers(ground, "h", BOTH, ONE),
    ]


def workers(ground: Ground) -> list[Contender]:
    return [
        Smtp(own(ground, f"i{count}", smtp_threads=count), KEPT_ALIVE, f"fastsmtp, {count} workers")
        for count in (1, 2, 4)
    ]


def idle(ground: Ground) -> list[Contender]:
    plain = own(ground, "j-plain", smtp_connections=CONNECTIONS + 100)
    secure = own(ground, "j-tls", smtp_connections=CONNECTIONS + 100, **ground.certificate.settings)
    return [Idle(plain, tls=False), Idle(secure, tls=True)]


def amid_traffic(ground: Ground) -> list[Contender]:
    return [AmidTraffic(own(ground, "k"))]


def queue_types(ground: Ground) -> list[Contender]:
    made: list[Contender] = []
    for kind in ("classic", "quorum"):
        server = Fastsmtp(
            ground.pinned_broker, f"l-{kind}", ground.folder, rabbitmq_queue_type=kind
        )
        made += [
            PinnedSmtp(server, KEPT_ALIVE, f"fastsmtp, {kind}"),
            *(
                PinnedBrokerAlone(
                    ground.pinned_broker,
                    f"l-{kind}-broker-{window}",
                    KEPT_ALIVE.size,
                    window,
                    f", {kind}",
                    x_queue_type=kind,
                )
                for window in (WINDOW, KEPT_ALIVE.sessions)
            ),
        ]
    return made


def embedded(ground: Ground) -> list[Contender]:
    return [Smtp(Embedded(ground.folder), KEPT_ALIVE), Disk(ground.folder)]


def by_cpu(factor: float, *others: str, name: str = Fastsmtp.name) -> list[Expectation]:
    """CPU a message (a recipient), at most so many times each of the others'."""
    return [Expectation("cpu", name, factor, (each,)) for each in others]


WORKLOADS = [
    Workload(
        "a",
        "kept-alive",
        f"Confirmed: {KEPT_ALIVE}",
        kept_alive,
        [
            *by_cpu(0.50, GO, NODE),
            *by_cpu(0.13, AIOSMTPD),
            *by_cpu(0.15, HARAKA),
            Expectation("rate", Fastsmtp.name, 1.4, (GO, NODE, AIOSMTPD, HARAKA), at_least=True),
            Expectation("rate", Fastsmtp.name, None, (CEILING,)),
        ],
    ),
    Workload(
        "b",
        "discard",
        f"Discarded: {KEPT_ALIVE}",
        discarding(KEPT_ALIVE),
        by_cpu(1.0, SmtpSink.name, name=Discarding.name),
    ),
    Workload(
        "c",
        "reconnect",
        f"Discarded: {RECONNECT}",
        discarding(RECONNECT),
        by_cpu(1.0, SmtpSink.name, name=Discarding.name),
    ),
    Workload("d", "large", f"Confirmed: {LARGE}", large, [*by_cpu(0.30, GO), *by_cpu(0.50, NODE)]),
    Workload(
        "e",
        "fan-out",
        f"Confirmed, CPU a recipient: {FANNED_OUT}",
        fanned_out,
        by_cpu(0.35, GO, NODE),
    ),
    Workload("f", "pipelined", f"Confirmed: {PIPELINED}", pipelined, by_cpu(0.65, NOT_PIPELINED)),
    Workload("g", "starttls", f"Confirmed: {STARTTLS}", encrypted(STARTTLS), by_cpu(1.0, GO)),
    Workload(
        "g2", "tls-kept-alive", f"Confirmed: {TLS_KEPT}", encrypted(TLS_KEPT), by_cpu(0.6, GO)
    ),
    Workload(
        "h",
        "one-client",
        f"Confirmed, latency: {ONE}",
        one_client,
        [Expectation("p50", Fastsmtp.name, 1.0, (CONFIRM,), plus=0.2)],
    ),
    Workload("i", "workers", f"Confirmed: {KEPT_ALIVE}", workers, [], quick=False),
    Workload(
        "j",
        "idle",
        f"Memory of {CONNECTIONS} connections that are idle",
        idle,
        [Expectation("resident", f"{Fastsmtp.name}, plain", 8.0)],
        quick=False,
        rounds=2,
        warm_up=False,
    ),
    Workload(
        "k",
        "amid-traffic",
        f"One message of 100 MB amid others: {KEPT_ALIVE}",
        amid_traffic,
        [Expectation("multiple", Fastsmtp.name, 3.0), Expectation("p99", Fastsmtp.name, 100.0)],
        rounds=5,
        warm_up=False,
    ),
    Workload(
        "l",
        "queue-types",
        f"Server and broker on a processor each: {KEPT_ALIVE}",
        queue_types,
        [
            Expectation("rate", f"{Fastsmtp.name}, classic", None, (f"{CEILING}, classic",)),
            Expectation(
                *("rate", f"{Fastsmtp.name}, quorum", 0.6, (f"{CEILING}, quorum",)), at_least=True
            ),
        ],
    ),
    Workload("m", "embedded", f"On the disk: {KEPT_ALIVE}", embedded, []),
]


def chosen(names: Sequence[str], quick: bool) -> list[Workload]:
    """By letter or name, in the order of the table; without names all, or the quick ones.

    Raises ValueError for a name that is none.
    """
    if not names:
        return [each for each in WORKLOADS if each.quick or not quick]
    known = {each for workload in WORKLOADS for each in workload[:2]}
    if unknown := set(names) - known:
        raise ValueError(f"no workload is called {', '.join(sorted(unknown))}")
    return [each for each in WORKLOADS if set(each[:2]) & set(names)]
