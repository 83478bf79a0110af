"""The workloads of the suite: who takes part, under which load, and what is expected."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.bare import Bare
from bench.contenders import BrokerAlone, Contender, Disk, Smtp
from bench.ground import Ground
from bench.idle import CONNECTIONS, SPARE, Idle, possible
from bench.large import AmidTraffic
from bench.load import Load
from bench.micro import DOTTED, HEADERS, MEMCPY, UNSTUFFING, parts
from bench.peers import Aiosmtpd, Go, Haraka, Node, Peer
from bench.pinned import PinnedBrokerAlone, PinnedSmtp
from bench.servers import Discarding, Embedded, Fastsmtp, Server, SmtpSink
from bench.verdicts import Expectation
from tests.support.rabbitmq import Broker

KEPT_ALIVE = Load()
RECONNECT = Load(reconnect=True)
LARGE = Load(size=100_000, messages=3000)
MEGABYTE = Load(size=1_000_000, sessions=8, messages=300)
TEN_MEGABYTES = Load(size=10_000_000, sessions=4, messages=30)
FANNED_OUT = Load(size=20_000, recipients=10, messages=2000)
PIPELINED = Load(pipelined=True)
STARTTLS = Load(tls=True, reconnect=True)
TLS_KEPT = Load(tls=True)
ONE = Load(sessions=1)

WINDOW = 128
"""Publishes in flight at the ceiling."""
CEILING = BrokerAlone.title(WINDOW)
ALL = [Go, Node, Aiosmtpd, Haraka]
BOTH = [Go, Node]
GO, NODE, AIOSMTPD, HARAKA = Go.name, Node.name, Aiosmtpd.name, Haraka.name
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
    headings: tuple[str, str] = ("server", "answers 250 when")


def available(
    ground: Ground, letter: str, kinds: Sequence[type[Peer]], **options: Any
) -> list[Peer]:
    """Those that can run here, each with a queue of its own; of the others a note."""
    found: list[Peer] = []
    for kind in kinds:
        peer = kind(ground.broker, f"{letter}-{kind.__name__.lower()}", **options)
        if missing := peer.missing():
            ground.note(f"{kind.name} did not take part: {missing}")
        else:
            ground.versions |= peer.versions()
            found.append(peer)
    return found


def own(ground: Ground, letter: str, **settings: object) -> Fastsmtp:
    """fastsmtp with a queue of its own."""
    return Fastsmtp(ground.broker, f"{letter}-fastsmtp", ground.folder, **settings)


def confirming(
    ground: Ground, letter: str, kinds: Sequence[type[Peer]], tls: bool = False, **settings: object
) -> list[Server]:
    """fastsmtp, with these settings, and peers."""
    if not tls:
        return [own(ground, letter, **settings), *available(ground, letter, kinds)]
    pair = ground.certificate
    return [
        own(ground, letter, **pair.settings, **settings),
        *available(ground, letter, kinds, tls=tuple(pair)),
    ]


def side_by_side(
    letter: str, kinds: Sequence[type[Peer]], load: Load
) -> Callable[[Ground], list[Contender]]:
    """fastsmtp and peers under the same load."""
    return lambda ground: [
        Smtp(each, load) for each in confirming(ground, letter, kinds, tls=load.tls)
    ]


def least(
    ground: Ground, letter: str, load: Load, broker: Broker, **arguments: object
) -> list[Bare]:
    """What the same system calls cost without a server around them, where it can run."""
    if missing := Bare.missing():
        ground.note(f"{Bare.name} did not take part: {missing}")
        return []
    return [Bare(broker, f"{letter}-bare", load, **arguments)]


def beside_the_least(
    letter: str, kinds: Sequence[type[Peer]], load: Load
) -> Callable[[Ground], list[Contender]]:
    """fastsmtp, peers and the least that is possible, under the same load."""
    return lambda ground: [
        *side_by_side(letter, kinds, load)(ground),
        *(Smtp(each, load) for each in least(ground, letter, load, ground.broker)),
    ]


def kept_alive(ground: Ground) -> list[Contender]:
    return [
        *beside_the_least("a", ALL, KEPT_ALIVE)(ground),
        *(
            BrokerAlone(ground.broker, f"a-broker-{window}", KEPT_ALIVE.size, window)
            for window in (WINDOW, KEPT_ALIVE.sessions)
        ),
    ]


def discarding(letter: str, load: Load) -> Callable[[Ground], list[Contender]]:
    return lambda ground: [
        Smtp(Discarding(ground.folder), load),
        Smtp(SmtpSink(), load),
        *(Smtp(each, load) for each in available(ground, letter, BOTH, discard=True)),
    ]


def pipelined(ground: Ground) -> list[Contender]:
    return [
        Smtp(own(ground, "f-a"), KEPT_ALIVE, NOT_PIPELINED),
        *beside_the_least("f", BOTH, PIPELINED)(ground),
    ]


def one_client(ground: Ground) -> list[Contender]:
    return [
        *beside_the_least("h", BOTH, ONE)(ground),
        BrokerAlone(ground.broker, "h-broker", ONE.size, 1),
    ]


def workers(ground: Ground) -> list[Contender]:
    return [
        Smtp(
            own(ground, f"i{count}", smtp_threads=count), KEPT_ALIVE, f"fastsmtp, workers: {count}"
        )
        for count in (1, 2, 4)
    ]


def idle(ground: Ground) -> list[Contender]:
    connections = possible()
    if connections < CONNECTIONS:
        ground.note(f"(j) had {connections} connections, as many as the descriptor limit allows")
    return [
        Idle(each, tls, connections)
        for tls in (False, True)
        for each in confirming(ground, f"j-{tls}", BOTH, tls, smtp_connections=connections + SPARE)
    ]


def amid_traffic(ground: Ground) -> list[Contender]:
    return [AmidTraffic(each) for each in confirming(ground, "k", BOTH)]


def queue_types(ground: Ground) -> list[Contender]:
    made: list[Contender] = []
    for kind in ("classic", "quorum"):
        server = Fastsmtp(
            ground.pinned_broker, f"l-{kind}", ground.folder, rabbitmq_queue_type=kind
        )
        made += [
            PinnedSmtp(server, KEPT_ALIVE, f"fastsmtp, {kind}"),
            *(
                PinnedSmtp(each, KEPT_ALIVE, f"{each.name}, {kind}")
                for each in least(
                    *(ground, f"l-{kind}", KEPT_ALIVE, ground.pinned_broker), x_queue_type=kind
                )
            ),
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


def by_cpu(factor: float | None, *others: str, name: str = Fastsmtp.name) -> list[Expectation]:
    """CPU a message (a recipient), at most so many times each of the others'."""
    return [Expectation("cpu", name, factor, (each,)) for each in others]


THE_LEAST = [*by_cpu(None, Bare.name), *by_cpu(None, GO, NODE, name=Bare.name)]
"""How near fastsmtp is to it, and where it is itself."""


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
            *THE_LEAST,
            Expectation("rate", Fastsmtp.name, 1.4, (GO, NODE, AIOSMTPD, HARAKA), at_least=True),
            Expectation("rate", Fastsmtp.name, None, (CEILING,)),
        ],
    ),
    Workload(
        "b",
        "discard",
        f"Discarded: {KEPT_ALIVE}",
        discarding("b", KEPT_ALIVE),
        by_cpu(1.0, SmtpSink.name, name=Discarding.name),
    ),
    Workload(
        "c",
        "reconnect",
        f"Discarded: {RECONNECT}",
        discarding("c", RECONNECT),
        by_cpu(1.0, SmtpSink.name, name=Discarding.name),
    ),
    Workload(
        "d",
        "large",
        f"Confirmed: {LARGE}",
        side_by_side("d", ALL, LARGE),
        [*by_cpu(0.30, GO), *by_cpu(0.50, NODE)],
    ),
    *(
        Workload(
            letter,
            name,
            f"Confirmed: {load}",
            beside_the_least(letter, BOTH, load),
            [*by_cpu(0.10, GO), *by_cpu(0.50, NODE), *THE_LEAST],
            quick=False,
        )
        for letter, name, load in (
            ("o", "megabyte", MEGABYTE),
            ("p", "ten-megabytes", TEN_MEGABYTES),
        )
    ),
    Workload(
        "e",
        "fan-out",
        f"Confirmed, CPU a recipient: {FANNED_OUT}",
        beside_the_least("e", BOTH, FANNED_OUT),
        [*by_cpu(0.35, GO, NODE), *THE_LEAST],
    ),
    Workload(
        "f",
        "pipelined",
        f"Confirmed: {PIPELINED}",
        pipelined,
        [*by_cpu(0.65, NOT_PIPELINED), *THE_LEAST],
    ),
    Workload(
        "g",
        "starttls",
        f"Confirmed: {STARTTLS}",
        side_by_side("g", BOTH, STARTTLS),
        by_cpu(1.0, GO),
    ),
    Workload(
        "g",
        "tls-kept-alive",
        f"Confirmed: {TLS_KEPT}",
        side_by_side("tls-kept", BOTH, TLS_KEPT),
        by_cpu(0.6, GO),
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
            Expectation("rate", f"{Bare.name}, quorum", None, (f"{CEILING}, quorum",)),
        ],
        quick=False,
    ),
    Workload("m", "embedded", f"On the disk: {KEPT_ALIVE}", embedded, []),
    Workload(
        "n",
        "micro",
        "Parts of the hot path alone, a process a round",
        parts,
        [
            Expectation("octets", UNSTUFFING, 0.25, (MEMCPY,), at_least=True),
            Expectation("octets", DOTTED, None, (MEMCPY,)),
            Expectation("octets", HEADERS, 1.0, at_least=True),
        ],
        quick=False,
        warm_up=False,
        headings=("part", "of"),
    ),
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
