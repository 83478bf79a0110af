"""Answers `Credentials`: decides whose turn it is, asks the back ends, delays failures and counts.

An attempt waits in three lines, one after the other:

1. that of its user and address. The next one of both is checked when the answer to a failure before
   it is due, which the failures of that address and of that user's name (from any address) decide;
2. that of its address, which has one attempt checked at a time and rests for up to a second after
   a failure. So all addresses with attempts take turns;
3. for a slot of a worker's checks. Addresses that have not failed lately have slots of their own.

A user who succeeded from this address within 30 days (`known_clients`) waits for no failure: up to
KNOWN_PLACES attempts of both are open at a time, and the second and third line are those of known
clients. A failure is answered at a time that its arrival and the failures before it decide, known
or not: the time tells neither how long a hash took nor who exists.

Each attempt is one task while it waits or is checked, and a timer while its answer is kept back.
A client that hangs up while its attempt waits takes it back; later, the attempt counts in any case.
Passwords are never logged, names only with `log-auth-names`: people type the one for the other.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from fastsmtp import replies
from fastsmtp.addresses import client_network
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.net.answerer import Answered, Parts
from fastsmtp.net.auth import backends
from fastsmtp.net.auth.base import Backend, UnavailableError
from fastsmtp.net.auth.known_clients import KnownClients
from fastsmtp.net.auth.lines import Lines
from fastsmtp.net.failures import LAST_DELAY
from fastsmtp.questions import Credentials
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

CHECK_TIMEOUT = 10.0
"""Seconds that the back ends have."""

PATIENCE = 60.0
"""Seconds that an attempt waits to be checked; then it is told 454."""

REST = 1.0
"""Seconds, at most, from a failure of an address to the next check of a client not known there."""

KNOWN_PLACES = 64
"""Attempts of a known client that are open at a time: checked, or failed and not answered yet."""

SLOTS = 2
"""Checks at a time of known clients, of addresses that have not failed lately, and of others."""

TELL = 60.0
"""Seconds from one log line about a back end that is down to the next."""

OUTCOMES = {
    replies.AUTHENTICATED: "accepted",
    replies.BAD_CREDENTIALS: "refused",
    replies.AUTH_UNAVAILABLE: "unavailable",
}
"""What metrics call each reply."""

Judgement = tuple[Reply, float]
"""A reply, and the loop's time at which it is due."""


class _Attempt:
    """One question, from `ask` to its answer."""

    # fmt: off
    __slots__ = (
        "_answered", "_answering", "_patience", "credentials", "pair", "since", "waits", "work",
    )
    # fmt: on

    def __init__(self, credentials: Credentials, answered: Answered, pair: bytes) -> None:
        self.credentials = credentials
        self.pair = pair  # of user and address, see `known_clients`
        self.since = asyncio.get_running_loop().time()
        self.waits = True  # to be checked
        self.work: asyncio.Task[object] | None = None
        self._answered: Answered | None = answered  # None: it was called, or the client is gone
        self._answering: asyncio.TimerHandle | None = None  # the answer is kept back
        self._patience = asyncio.timeout(PATIENCE)
        credentials.on_hang_up = self._hung_up

    async def wait(self, judge: Coroutine[Any, Any, Judgement]) -> Judgement:
        """Give what `judge` says; raises TimeoutError where it does not begin its check in time."""
        async with self._patience:
            return await judge

    def begin(self) -> None:
        """Its turn has come: it is checked whatever the client does, and takes its time."""
        self.waits = False
        self._patience.reschedule(None)

    def answer_at(self, due: float, reply: Reply) -> None:
        """Answer at the loop's time `due`, if the client is still there."""
        if self._answered is not None:
            self._answering = asyncio.get_running_loop().call_at(due, self._answer, reply)

    def _answer(self, reply: Reply) -> None:
        answered, self._answered = self._answered, None
        self.credentials.on_hang_up = None  # which holds it in turn
        if answered is not None:
            answered(self.credentials, reply)

    def _hung_up(self) -> None:
        """Nobody waits for the answer."""
        self._answered = self.credentials.on_hang_up = None
        if self._answering is not None:
            self._answering.cancel()
        if self.waits and self.work is not None:
            self.work.cancel()


class Authenticator:
    """Every attempt of one worker's clients."""

    def __init__(self, sources: Sequence[Backend], parts: Parts) -> None:
        self._sources = sources
        self._failures = parts.failures
        self._metrics = parts.metrics
        self._refusals = parts.refusals
        self._tells_names = parts.settings.log_auth_names
        self._known = KnownClients(parts.settings)
        self._pairs = Lines()  # by user and address
        self._addresses = Lines()
        self._known_addresses = Lines()
        self._slots = Lines()  # by the kind of client, see `_kind`
        self._tasks = BackgroundTasks()
        self._silent_until = 0.0

    def ask(self, credentials: Credentials, answered: Answered) -> None:
        """See `answerer.Answerer`: 235 where they are right."""
        pair = self._known.pair(credentials.user, credentials.peer.remote_ip)
        attempt = _Attempt(credentials, answered, pair)
        attempt.work = self._tasks.start(self._work(attempt))

    async def _work(self, attempt: _Attempt) -> None:
        due = 0.0
        try:
            reply, due = await attempt.wait(self._judge(attempt))
        except TimeoutError:
            reply = self._report(attempt.credentials, replies.AUTH_UNAVAILABLE)
        attempt.answer_at(due, reply)

    async def _judge(self, attempt: _Attempt) -> Judgement:
        """Wait behind the attempts of the same user and address; the answer, and when it is due."""
        pair, due, delay = attempt.pair, 0.0, 0.0
        await self._pairs.enter(pair, KNOWN_PLACES if self._known.has(pair) else 1)
        try:
            reply, delay = await self._take_turn(attempt)
            if reply is replies.AUTHENTICATED:
                self._known.add(pair, attempt.credentials.user)
                self._pairs.widen(pair, KNOWN_PLACES)
            elif reply is replies.BAD_CREDENTIALS:
                latest = asyncio.get_running_loop().time() + LAST_DELAY
                due = min(self._pairs.over(pair, attempt.since, delay), latest)
        finally:
            self._pairs.leave(pair, failed=delay > 0, until=due)
        return reply, due

    async def _take_turn(self, attempt: _Attempt) -> tuple[Reply, float]:
        """Wait for the address's turn; the reply, and how long it is to be delayed."""
        address = attempt.credentials.peer.remote_ip
        network = client_network(address)
        known = self._known.has(attempt.pair)
        lines = self._known_addresses if known else self._addresses
        delay = until = 0.0
        await lines.enter(network)
        try:
            reply = await self._take_slot(attempt, self._kind(known, address))
            if reply is replies.BAD_CREDENTIALS:
                delay = self._failures.add(address, attempt.credentials.user)
                until = 0.0 if known else asyncio.get_running_loop().time() + min(delay, REST)
        finally:
            lines.leave(network, failed=delay > 0, until=until)
        return reply, delay

    async def _take_slot(self, attempt: _Attempt, kind: bytes) -> Reply:
        """Wait until the worker can check it; the reply, which is reported."""
        reply = None
        await self._slots.enter(kind, SLOTS)
        try:
            attempt.begin()
            reply = await self._reply(attempt.credentials)
            return self._report(attempt.credentials, reply)
        finally:
            self._slots.leave(kind, failed=reply is not replies.AUTHENTICATED)

    def _kind(self, known: bool, address: str) -> bytes:
        """Whose slots a client takes."""
        if known:
            return b"known"
        return b"failed" if self._failures.has_failed(address) else b"good"

    async def _reply(self, credentials: Credentials) -> Reply:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                return await self._check(credentials.user, credentials.password)
        except TimeoutError:
            why = f"no answer within {CHECK_TIMEOUT:g} s"
        except UnavailableError as error:
            why = str(error)
        except Exception:
            log.exception("credentials could not be checked", extra={"peer": credentials.peer})
            return replies.AUTH_UNAVAILABLE
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            log.error("clients cannot authenticate: %s", why)
            self._silent_until = now + TELL
        return replies.AUTH_UNAVAILABLE

    async def _check(self, user: str, password: bytes) -> Reply:
        """A failure has asked every back end, whoever knows the user. Raises UnavailableError."""
        down: UnavailableError | None = None
        for source in self._sources:
            try:
                if await source.check(user, password):
                    return replies.AUTHENTICATED
            except UnavailableError as error:
                down = error
        if down is not None:
            raise down
        return replies.BAD_CREDENTIALS

    def _report(self, credentials: Credentials, reply: Reply) -> Reply:
        """Count and report the outcome, which is given back."""
        self._metrics.authentications[OUTCOMES[reply]] += 1
        if reply is not replies.AUTHENTICATED:
            tried = credentials.user if self._tells_names else None
            self._refusals.tell(Refusal(reply, credentials.peer, tried=tried))
        return reply


def answerer(parts: Parts) -> Authenticator | None:
    """See `answerers.ANSWERERS`. Raises OSError or ValueError."""
    sources = [backend.make(parts.settings) for backend in backends.configured(parts.settings)]
    return Authenticator(sources, parts) if sources else None
