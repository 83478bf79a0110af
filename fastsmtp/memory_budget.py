"""The memory that mail of one worker may take: who may take how much of it, and who is next.

Every connection and every message in flight has a `Claim` and reports there what it holds. A small
message needs nothing else. A large one needs a grant of what it will take; where there is no room
for that, its claim waits in a line, in which clients take turns.

Nothing here waits, reads a clock or does I/O. No claim waits for another that waits: what has a
whole grant needs no more memory to come to its end, and what may need more is bounded, so that the
largest message always fits beside it.
"""

from collections.abc import Callable
from typing import Protocol

from fastsmtp.addresses import client_network
from fastsmtp.peer import Peer

SMALL = 256 * 1024
"""Bytes of the largest message that needs no grant."""

FLAT = 8 * 1024
"""Bytes that every connection is charged with."""

TLS = 40 * 1024
"""Bytes that TLS adds to that."""

CONNECTIONS = 8 << 20
"""Bytes that connections may take however small the limit is: a thousand of them."""

SHARE = 64 * 1024
"""Bytes that a client may hold without a grant as long as there is memory at all."""

NETWORKS = 16
"""Clients (IPv6 /64) of one /48 that count as one client from then on."""


class Receiver(Protocol):
    """Whoever owns a claim that can wait."""

    def regulate(self) -> None:
        """The claim waits no longer."""


class Client:
    """A user or a network, whose claims take turns with those of other clients."""

    __slots__ = ("held", "key", "members", "network", "uses")

    def __init__(self, key: object, network: "Client | None" = None) -> None:
        self.key = key
        self.network = network  # of a /64, the /48 that it is in
        self.members = 0  # of a /48: its clients
        self.uses = 0  # claims
        self.held = 0  # bytes without a grant

    def whole(self) -> "Client":
        """Give the client that it counts as: itself, or its crowded /48."""
        if self.network is not None and self.network.members > NETWORKS:
            return self.network
        return self


class Claim:
    """What one connection, or one message in flight, holds and may come to hold."""

    # fmt: off
    __slots__ = (
        "_budget", "charged", "client", "granted", "is_large", "is_loose", "is_partial", "line",
        "most", "receiver", "size", "turn",
    )
    # fmt: on

    def __init__(self, budget: "MemoryBudget", client: Client, receiver: Receiver | None) -> None:
        self._budget = budget
        self.client = client
        self.receiver = receiver
        self.size = 0  # bytes that are held
        self.most = 0  # bytes that may come to be held
        self.granted = 0  # bytes that may be held without asking
        self.charged = 0  # bytes that the budget counts: `size`, or `granted` where that is more
        self.is_loose = True  # of the small messages' part: content comes in without a large grant
        self.is_large = False  # of the rest, by a grant
        self.is_partial = False  # by a grant that may not be enough
        self.line: Line | None = None  # where it waits
        self.turn: Client | None = None  # whose turns it waits for there

    def reach(self, size: int, most: int) -> bool:
        """Report that `size` bytes are held, and `most` may come to be: may more come in now?"""
        self.size = size
        self.most = max(size, most)
        self._charge(max(size, self.granted))
        if self.line is None and size > self.granted:
            self._budget.admit(self)
        elif self.line is not None and size > SMALL and not self.line.is_large:
            self._budget.leave(self)
            self._budget.admit(self)
        return self.line is None

    def reserve(self, most: int) -> bool:
        """Ask for all that a large message will take, before any of it comes."""
        self.most = max(most, self.size)
        self._budget.admit_large(self, whole=True)
        return self.line is None

    def give_back(self, size: int) -> None:
        """Report that `size` bytes are held and that no more is expected."""
        if self.granted or self.line is not None:
            self._budget.leave(self)
            self.granted = 0
            self._move(True, False, False)
        self.hold(size)

    def hand_over(self, size: int) -> None:
        """Report that all has come in, `size` bytes: the claim is the message's from now on."""
        if self.line is not None:
            self._budget.leave(self)
        self.receiver = None
        self.granted = 0
        self._move(False, self.is_large, False)
        self.hold(size)

    def hold(self, size: int) -> None:
        """Report that `size` bytes are held."""
        self.size = size
        self._charge(size)

    def end(self) -> None:
        """Hold nothing, wait for nothing; the last call."""
        if self.line is not None:
            self._budget.leave(self)
        self.receiver = None
        self.granted = 0
        self.hold(0)
        self._budget.forget(self.client)

    def grant(self, size: int, *, is_large: bool, is_partial: bool) -> None:
        """Let it come to hold `size` bytes; see `MemoryBudget`, which alone calls this."""
        if is_large:
            self._move(False, True, is_partial)
        self.granted = size
        self._charge(size)

    def _charge(self, size: int) -> None:
        if size != self.charged:
            more, self.charged = size - self.charged, size
            self._budget.count(self, more)
            self._budget.hold(more)

    def _move(self, is_loose: bool, is_large: bool, is_partial: bool) -> None:
        """Count as part of something else."""
        budget = self._budget
        budget.count(self, -self.charged)
        self.is_loose, self.is_large, self.is_partial = is_loose, is_large, is_partial
        budget.count(self, self.charged)
        if budget.waiting:
            budget.serve()


class Line:
    """Claims that wait: clients take turns, a client's claims keep their order."""

    __slots__ = ("_turns", "is_large")

    def __init__(self, is_large: bool) -> None:
        self.is_large = is_large  # of claims for large messages
        self._turns: dict[Client, dict[Claim, None]] = {}  # the next client first

    def __bool__(self) -> bool:
        return bool(self._turns)

    def join(self, claim: Claim) -> None:
        """Wait behind all others of the client."""
        claim.line = self
        claim.turn = claim.client.whole()
        self._turns.setdefault(claim.turn, {})[claim] = None

    def leave(self, claim: Claim) -> None:
        """Wait no longer, without a turn."""
        client, claim.line, claim.turn = claim.turn, None, None
        assert client is not None
        waiting = self._turns[client]
        del waiting[claim]
        if not waiting:
            del self._turns[client]

    def first(self) -> Claim:
        """The claim whose turn it is."""
        return next(iter(next(iter(self._turns.values()))))

    def turn(self) -> Claim:
        """Take the first claim out of the line; its client's next turn is after all others'."""
        claim = self.first()
        client = claim.turn
        assert client is not None
        self.leave(claim)
        waiting = self._turns.pop(client, None)
        if waiting is not None:
            self._turns[client] = waiting
        return claim


class MemoryBudget:
    """The claims of one worker, in bytes."""

    # fmt: off
    __slots__ = (
        "_clients", "_composing", "_large_line", "_most_connections", "_serving", "_small_line",
        "connections", "held", "is_full", "is_scarce", "large", "limit", "loose", "partial",
        "small", "waiting", "when_scarce",
    )
    # fmt: on

    def __init__(self, limit: int, largest: int = 0) -> None:
        """`limit` is smtp-maxmemory, `largest` the content of the largest message."""
        self.limit = limit
        self.small = limit // 8  # for messages that have no large grant, alone
        # Room that grants leave: for the one large message that is held in a second form, as gzip.
        self._composing = min(largest * 4 // 3, limit // 3)
        self.connections = 0  # of connections themselves
        self._most_connections = max(limit // 2, CONNECTIONS)  # of that
        self.held = 0  # of everything
        self.loose = 0  # of that, by what comes in without a large grant
        self.large = 0  # of that, by what came in, or comes, with one
        self.partial = 0  # of that, by grants that may not be enough
        self.is_full = False  # clients that hold much hear 452 at MAIL and RCPT
        self.waiting = 0  # claims in a line
        self._small_line = Line(is_large=False)
        self._large_line = Line(is_large=True)
        self.is_scarce = False  # small content of clients that hold much waits
        self.when_scarce: Callable[[], None] | None = None  # called as it becomes so
        self._serving = False
        self._clients: dict[object, Client] = {}

    # Clients

    def claim(self, peer: Peer, receiver: Receiver | None) -> Claim:
        """A new claim of the client that `peer` is; it holds nothing yet."""
        client: Client = peer.client
        if client is None:
            client = peer.client = self._client(peer)
        client.uses += 1
        return Claim(self, client, receiver)

    def forget(self, client: Client) -> None:
        """One of its claims has ended."""
        client.uses -= 1
        if not client.uses:
            self._clients.pop(client.key, None)
            if client.network is not None:
                client.network.members -= 1
                self.forget(client.network)

    def _client(self, peer: Peer) -> Client:
        key: object = peer.remote_ip
        network = None
        if peer.user:
            key = (peer.user,)
        elif ":" in peer.remote_ip:
            key = client_network(peer.remote_ip)
        found = self._clients.get(key)
        if found is None:
            if isinstance(key, bytes):
                network = self._clients.get(key[:6]) or Client(key[:6])
                self._clients[key[:6]] = network
                network.members += 1
                network.uses += 1
            found = self._clients[key] = Client(key, network)
        return found

    # What is held

    def connect(self, size: int) -> None:
        """Report that a connection itself takes `size` bytes more; where negative, fewer."""
        self.connections += size
        self.hold(size)

    def has_room_for_connection(self, size: int) -> bool:
        """Whether a connection may come to take `size` bytes more: half of memory is for mail."""
        return self.connections + size <= self._most_connections

    def hold(self, size: int) -> None:
        """Report that `size` bytes more are held that are no claim's; where negative, fewer."""
        self.held += size
        self.is_full = self.limit - self.held < self.small // 2
        if size < 0 and self.waiting:
            self.serve()
        room = min(self.small - self.loose, self.limit - self.held)
        if room < self.small // 2:
            if not self.is_scarce:
                self.is_scarce = True
                if self.when_scarce is not None:
                    self.when_scarce()
        elif self.is_scarce and room > self.small // 4 * 3:
            self.is_scarce = False

    def count(self, claim: Claim, size: int) -> None:
        """Count `size` bytes more of a claim as what it is; `hold` counts them in the sum."""
        if claim.is_large:
            self.large += size
        else:
            claim.client.held += size
            if claim.client.network is not None:
                claim.client.network.held += size
        if claim.is_loose:
            self.loose += size
        if claim.is_partial:
            self.partial += size

    def refuses(self, client: Client | None) -> bool:
        """Whether `client`, while memory is full, may begin no message and add no recipient."""
        if not self.is_full:
            return False
        held = 0 if client is None else client.whole().held
        return held >= self.limit - self.held

    def must_ask(self, client: Client | None) -> bool:
        """Whether `client` holds so much that small content of it waits, too."""
        room = min(self.small - self.loose, self.limit - self.held)
        if room >= self.small // 2:
            return False
        held = 0 if client is None else client.whole().held
        return held > max(room, SHARE if self.held < self.limit else 0)

    # Grants

    def admit(self, claim: Claim) -> None:
        """Let `claim` go on, with a grant where it needs one, or let it wait."""
        if claim.size > SMALL:
            self.admit_large(claim, whole=False)
        elif self.must_ask(claim.client) and (self._small_line or not self._grant_small(claim)):
            self._join(self._small_line, claim)

    def admit_large(self, claim: Claim, *, whole: bool) -> None:
        """The same for a large message; `whole`: what it will take is known and comes at once."""
        if self._large_line or not (
            (not whole and self._grant_part(claim)) or self._grant_whole(claim)
        ):
            self._join(self._large_line, claim)

    def leave(self, claim: Claim) -> None:
        """Let `claim` wait no longer."""
        if claim.line is not None:
            self.waiting -= 1
            claim.line.leave(claim)

    def serve(self) -> None:
        """Give grants to those whose turn it is, as far as there is room."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._small_line and self._goes_on(self._small_line.first()):
                self._pass(self._small_line)
            while self._large_line and self._grant_whole(self._large_line.first()):
                self._pass(self._large_line)
        finally:
            self._serving = False

    def _goes_on(self, claim: Claim) -> bool:
        return (
            not self.must_ask(claim.client) or self._grant_small(claim) or self._grant_part(claim)
        )

    def _pass(self, line: Line) -> None:
        self.waiting -= 1
        receiver = line.turn().receiver
        if receiver is not None:
            receiver.regulate()

    def _join(self, line: Line, claim: Claim) -> None:
        self.waiting += 1
        line.join(claim)

    def _grant_small(self, claim: Claim) -> bool:
        """A grant out of the small messages' part."""
        more = SMALL - claim.charged
        if self.loose + more > self.small or self.held + more > self.limit:
            return False
        claim.grant(SMALL, is_large=False, is_partial=False)
        return True

    def _grant_part(self, claim: Claim) -> bool:
        """A grant of twice what has come, of a message whose size nobody knows."""
        size = 2 * claim.size if claim.size > SMALL else SMALL
        partial = self.partial + size - (claim.charged if claim.is_partial else 0)
        if claim.size > SMALL and size >= claim.most:
            return False
        if partial > self.limit // 16 or not self._fits(claim, size):
            return False
        claim.grant(size, is_large=True, is_partial=True)
        return True

    def _grant_whole(self, claim: Claim) -> bool:
        """A grant of all that it may come to hold."""
        if not self._fits(claim, claim.most):
            return False
        claim.grant(claim.most, is_large=True, is_partial=False)
        return True

    def _fits(self, claim: Claim, size: int) -> bool:
        held = self.held + size - claim.charged
        large = self.large + size - (claim.charged if claim.is_large else 0)
        certain = self.large - self.partial  # what comes to its end without another grant
        if claim.is_large and not claim.is_partial:
            certain -= claim.charged
        if not certain:  # nothing else would make room for it
            return held <= self.limit
        return (
            large + self._composing <= self.limit - self.small
            and held + self._composing <= self.limit
        )
