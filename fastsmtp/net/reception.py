"""What all connections of a worker share; holds it, and does nothing."""

import asyncio
import logging
from typing import TYPE_CHECKING

from fastsmtp._session import Rules
from fastsmtp.gate import Gate
from fastsmtp.ids import Ids
from fastsmtp.metrics import Metrics
from fastsmtp.net.access import Access
from fastsmtp.net.answerer import Answerer
from fastsmtp.net.places import Places
from fastsmtp.net.proxy import Complaints
from fastsmtp.net.tls import Certificates
from fastsmtp.questions import Question
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply

if TYPE_CHECKING:
    from fastsmtp.net.connection import Connection

log = logging.getLogger(__name__)


class Reception:
    """One a worker."""

    __slots__ = (
        "access",
        "answerers",
        "certificates",
        "complaints",
        "gate",
        "ids",
        "limit",
        "lost",
        "metrics",
        "open",
        "places",
        "refusal",
        "refusals",
        "rules",
        "tells",
    )

    def __init__(
        self,
        rules: Rules,
        gate: Gate,
        metrics: Metrics,
        refusals: Refusals,
        places: Places,
        limit: int,
        access: Access,
        answerers: dict[type[Question], Answerer],
        certificates: Certificates | None = None,
    ) -> None:
        self.rules = rules
        self.gate = gate
        self.metrics = metrics
        self.refusals = refusals
        self.places = places  # open connections of all workers
        self.limit = limit  # of them at most
        self.access = access
        self.answerers = answerers
        self.tells = log.isEnabledFor(logging.DEBUG)
        self.certificates = certificates
        self.open: set[Connection] = set()
        self.refusal: Reply | None = None  # what new clients are told instead of the greeting
        self.ids = Ids()  # of sessions, for the log
        self.lost = asyncio.Event()  # one of `open` has ended
        self.complaints = Complaints()
