"""Credentials that a client gave become a reply: what combines back ends, delays and counts.

A success is told at once, a failure after a delay that grows with the failures of the address.
Each attempt is one task while a back end is asked, and a timer while its answer is kept back.
What is logged never holds a name or a password: people type the one where the other belongs.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from fastsmtp import replies
from fastsmtp.metrics import Metrics
from fastsmtp.net.auth import hardcoded
from fastsmtp.net.auth.base import Backend, UnavailableError
from fastsmtp.net.auth.file import File
from fastsmtp.net.auth.hardcoded import Hardcoded
from fastsmtp.net.auth.pair import Pairs
from fastsmtp.net.failures import Failures, network
from fastsmtp.peer import Peer
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings

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

Answer = Callable[[Reply], None]


def backends(settings: Settings) -> list[Backend]:
    """Those that the settings name, the cheap ones first. Raises OSError."""
    found: list[Backend] = []
    if settings.smtp_username:
        found.append(Pairs([(settings.smtp_username, settings.smtp_password)]))
    if settings.smtp_auth.startswith(hardcoded.SCHEME):
        found.append(Hardcoded(settings.smtp_auth))
    elif settings.smtp_auth:
        found.append(File(settings.smtp_auth))
    return found


class Authenticator:
    """Every attempt of one worker's clients."""

    def __init__(
        self,
        sources: Sequence[Backend],
        failures: Failures,
        metrics: Metrics,
        refusals: Refusals,
    ) -> None:
        self._sources = sources
        self._failures = failures
        self._metrics = metrics
        self._refusals = refusals
        self._open: Counter[bytes] = Counter()  # attempts by address
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent_until = 0.0

    def begin(self, peer: Peer, user: str, password: bytes, answer: Answer) -> "Attempt":
        """Find out; `answer` is called once, later, unless the attempt is cancelled."""
        address = network(peer.remote_ip)
        self._open[address] += 1
        attempt = Attempt(answer, lambda: self._end(address))
        if self._open[address] > AT_ONCE_PER_ADDRESS or self._open.total() > AT_ONCE:
            attempt.answer_after(0, self._report(peer, replies.AUTH_UNAVAILABLE))
        else:
            task = asyncio.create_task(self._work(attempt, peer, user, password))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return attempt

    async def _work(self, attempt: "Attempt", peer: Peer, user: str, password: bytes) -> None:
        """Ask and say, where the client waits still; a failure counts in any case."""
        reply = self._report(peer, await self._ask(peer, user, password))
        seconds = 0.0
        if reply is replies.BAD_CREDENTIALS:
            seconds = self._failures.add(peer.remote_ip)
        attempt.answer_after(seconds, reply)

    async def _ask(self, peer: Peer, user: str, password: bytes) -> Reply:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                return await self._check(user, password)
        except TimeoutError:
            why = f"no answer within {CHECK_TIMEOUT:g} s"
        except UnavailableError as error:
            why = str(error)
        except Exception:
            log.exception("credentials could not be checked", extra={"peer": peer})
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
            self._refusals.tell(reply, peer)
        return reply

    def _end(self, address: bytes) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class Attempt:
    """One client that waits for the reply to its credentials."""

    __slots__ = ("_answer", "_end")

    def __init__(self, answer: Answer, end: Callable[[], None]) -> None:
        """`end` is called when it is answered, or would have been."""
        self._answer: Answer | None = answer
        self._end = end

    def answer_after(self, seconds: float, reply: Reply) -> None:
        """Answer then. A client that hangs up to try again sooner gains nothing."""
        asyncio.get_running_loop().call_later(seconds, self._done, reply)

    def cancel(self) -> None:
        """The client is gone; the attempt counts in any case."""
        self._answer = None

    def _done(self, reply: Reply) -> None:
        self._end()
        if self._answer is not None:
            self._answer(reply)
