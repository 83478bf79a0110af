"""Log lines about clients that were refused or deferred, limited per client and reason.

Reads the events of `refusals`: the first of a client (IPv6: of a /64) and reason is written at once
at `info`, the others are counted, see `rate_limited_log`.
"""

import logging

from fastsmtp.addresses import client_network
from fastsmtp.escaping import printable
from fastsmtp.rate_limited_log import RateLimitedLog
from fastsmtp.refusals import Refusal

log = logging.getLogger(__name__)


class RefusalLog:
    """The lines of one worker."""

    def __init__(self) -> None:
        self._lines = RateLimitedLog(log, logging.INFO)

    def refused(self, refusal: Refusal) -> None:
        """Write or count one refusal."""
        reply, envelope = refusal.reply, refusal.envelope
        about: dict[str, object] = {"peer": refusal.peer}
        if envelope is not None:
            about["envelope"] = envelope.sender
        if refusal.recipient is not None:
            about["recipient"] = refusal.recipient
        if refusal.tried is not None:
            about["tried"] = printable(refusal.tried)
        self._lines.event(
            (client_network(refusal.peer.remote_ip), reply.kind),
            "%s: %d %s %s",
            "refused" if reply.code >= 500 else "deferred",
            reply.code,
            reply.enhanced,
            reply.lines[0],
            extra=about,
        )

    def close(self) -> None:
        """Write the counts that are not written yet."""
        self._lines.close()
