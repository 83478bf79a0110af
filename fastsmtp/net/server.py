"""What all connections of a worker share: holds it, and does nothing."""

import asyncio
import logging
from typing import Any

from fastsmtp._session import Rules
from fastsmtp.availability import Availability
from fastsmtp.ids import Ids
from fastsmtp.metrics import Metrics
from fastsmtp.net._read_block import ReadBlock
from fastsmtp.net.admission import Admission
from fastsmtp.net.answerer import Answerer
from fastsmtp.net.proxy import Complaints
from fastsmtp.net.tls import Certificates
from fastsmtp.net.turns import Turns
from fastsmtp.questions import Question
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)


class Server:
    """One object per worker."""

    __slots__ = (
        "admission",
        "answerers",
        "availability",
        "certificates",
        "complaints",
        "ids",
        "lost",
        "metrics",
        "open",
        "read_block",
        "refusal",
        "refusals",
        "rules",
        "tells",
        "turns",
    )

    def __init__(
        self,
        rules: Rules,
        availability: Availability,
        metrics: Metrics,
        refusals: Refusals,
        admission: Admission,
        answerers: dict[type[Question], Answerer],
        certificates: Certificates | None = None,
    ) -> None:
        self.rules = rules
        self.availability = availability
        self.metrics = metrics
        self.refusals = refusals
        self.admission = admission
        self.answerers = answerers
        self.certificates = certificates
        self.tells = log.isEnabledFor(logging.DEBUG)  # every connection is logged
        self.open: set[Any] = set()  # `Connection`s, which import this module
        self.refusal: Reply | None = None  # what new clients are told instead of the greeting
        self.ids = Ids()  # of sessions, for the log
        self.lost = asyncio.Event()  # one of `open` has ended
        self.complaints = Complaints(metrics)
        self.read_block = ReadBlock()
        self.turns = Turns()
