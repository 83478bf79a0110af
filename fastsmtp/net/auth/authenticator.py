"""Answers `Credentials`: asks the back ends, delays failures and counts.

A success is told at once, a failure after a delay that grows with the failures of the address.
Each attempt is one task while a back end is asked, and a timer while its answer is kept back.
What is logged never holds a name or a password: people type the one where the other belongs.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from fastsmtp import replies
from fastsmtp.addresses import client_network
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.net.answerer import Answered, Parts
from fastsmtp.net.auth import backends
from fastsmtp.net.auth.base import Backend, UnavailableError
from fastsmtp.peer import Peer
from fastsmtp.questions import Credentials
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

CHECK_TIMEOUT = 10.0
"""Seconds that the back ends have."""

TELL = 60.0
"""Seconds from one log line about a back end that is down to the next."""

AT_ONCE, AT_ONCE_PER_ADDRESS = 4096, 16
"""Attempts that a worker has open, those kept back included; whoever comes then is told 454."""

OUTCOMES = {
    replies.AUTHENTICATED: "accepted",
    replies.BAD_CREDENTIALS: "refused",
    replies.AUTH_UNAVAILABLE: "unavailable",
}
"""What metrics call each reply."""


class Authenticator:
    """Every attempt of one worker's clients."""

    def __init__(self, sources: Sequence[Backend], parts: Parts) -> None:
        self._sources = sources
        self._failures = parts.failures
        self._metrics = parts.metrics
        self._refusals = parts.refusals
        self._open: Counter[bytes] = Counter()  # attempts by address
        self._attempts = BackgroundTasks()
        self._silent_until = 0.0

    def ask(self, credentials: Credentials, answered: Answered) -> None:
        """See `answerer.Answerer`: 235 where they are right.

        A client that hangs up to try again sooner gains nothing: the attempt counts in any case.
        """
        address = client_network(credentials.peer.remote_ip)
        self._open[address] += 1
        if self._open[address] > AT_ONCE_PER_ADDRESS or self._open.total() > AT_ONCE:
            reply = self._report(credentials.peer, replies.AUTH_UNAVAILABLE)
            self._answer_after(0, credentials, reply, answered)
        else:
            self._attempts.start(self._work(credentials, answered))

    async def _work(self, credentials: Credentials, answered: Answered) -> None:
        peer = credentials.peer
        reply = self._report(peer, await self._reply(credentials))
        seconds = 0.0
        if reply is replies.BAD_CREDENTIALS:
            seconds = self._failures.add(peer.remote_ip)
        self._answer_after(seconds, credentials, reply, answered)

    def _answer_after(
        self, seconds: float, credentials: Credentials, reply: Reply, answered: Answered
    ) -> None:
        asyncio.get_running_loop().call_later(seconds, self._end, credentials, reply, answered)

    def _end(self, credentials: Credentials, reply: Reply, answered: Answered) -> None:
        address = client_network(credentials.peer.remote_ip)
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]
        answered(credentials, reply)

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

    def _report(self, peer: Peer, reply: Reply) -> Reply:
        """Count and report the outcome, which is given back."""
        self._metrics.authentications[OUTCOMES[reply]] += 1
        if reply is not replies.AUTHENTICATED:
            self._refusals.tell(Refusal(reply, peer))
        return reply


def answerer(parts: Parts) -> Authenticator | None:
    """See `answerers.ANSWERERS`. Raises OSError or ValueError."""
    sources = [backend.make(parts.settings) for backend in backends.configured(parts.settings)]
    return Authenticator(sources, parts) if sources else None
