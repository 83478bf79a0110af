"""Publishes over one confirming channel: window, batches, confirms.

Takes messages while a channel is attached, and gives each to its `Delivery` once. Everything put in
one round of the event loop leaves as one buffer; large bodies leave in slices as the socket takes
them. Opens no connection; what it counts tells channel.py whether the broker stores anything.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp._tail import Reader, Tail
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.rabbitmq import limit as limits
from fastsmtp.sinks.rabbitmq._amqp import Encoder
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.rabbitmq.limit import BodyLimit
from fastsmtp.sinks.rabbitmq.underlay import Underlay, message_id
from fastsmtp.sinks.rabbitmq.unstored import Unstored

log = logging.getLogger(__name__)

SECONDS_PER_OCTET = 1e-7
"""A publish may take so much longer until it is old: a second per 10 MB."""

MAX_OCTETS = 64 * 1024 * 1024
"""Bodies in flight on a connection; a larger one travels alone."""

SLICE = 256 * 1024
"""Octets of one write at most, about: encoding more would keep the event loop too long."""

UNDRAINED = 256 * 1024
"""Octets written after which others have their turn, and the socket takes them first."""


class Publish:
    """One recipient's publish, from `Publisher.put` to its end."""

    __slots__ = ("begun", "delivery", "outgoing", "position", "put", "refusal", "size")

    def __init__(self, outgoing: Outgoing, delivery: Delivery, position: int, put: float) -> None:
        self.outgoing = outgoing
        self.put = put  # monotonic, when its wait began
        self.position = position  # of the recipient in its message
        self.size = len(outgoing.prefix) + outgoing.tail.size
        self.delivery: Delivery | None = delivery  # None once settled
        self.refusal: Reply | None = None  # what an ack means, where the broker returned it
        self.begun = 0.0  # monotonic, when it was written

    def settle(self, refusal: Reply | None) -> None:
        """Settle once; what the broker says later has no effect."""
        delivery, self.delivery = self.delivery, None
        if delivery is not None:
            delivery.settle(self.position, refusal)

    def give_up(self, refusal: Reply) -> bool:
        """Settle, unless its delivery can wait longer; whether it was settled."""
        delivery = self.delivery
        if delivery is None or not delivery.give_up(self.position, refusal):
            return False
        self.delivery = None
        return True

    def expire(self) -> bool:
        """It is old: whether it is safe elsewhere."""
        return self.delivery is not None and self.delivery.expire(self.position)

    def is_older(self, before: float) -> bool:
        """Whether it was put before this time (monotonic), or earlier the larger it is."""
        return self.put + self.size * SECONDS_PER_OCTET <= before

    def drop_body(self) -> None:
        """Keep no content: it was written, and the broker's word is all that is missing."""
        outgoing = self.outgoing
        if outgoing.tail.size:
            self.outgoing = Outgoing(outgoing.id, None, "", b"", b"", outgoing.route)


class Publisher:
    """The mail of one connection; `attach` and `detach` give and take its channel."""

    def __init__(
        self,
        window: int,
        limit: BodyLimit,
        metrics: BrokerCounters,
        unstored: Unstored,
        encoder: Callable[[int, int], Encoder],
    ) -> None:
        """`encoder` makes one for (channel, frame_max)."""
        self.metrics = metrics
        self.acks = 0  # publishes that the broker confirmed, those that it returned included
        self.nacks = 0
        self.drains = 0  # times that the socket took a part of what is large
        self.is_open = False  # takes messages
        self.is_doubtful = False  # the broker stores nothing: others are better; see Channel
        self._patience = 0.0  # seconds that a publish had until it was old, at the last look
        self._in_time_at = 0.0  # monotonic; when what was put last was confirmed early
        self._window = window  # publishes
        self._limit = limit
        self._unstored = unstored
        self._make_encoder = encoder
        self._broken: Callable[[], None]  # given with the channel
        self._loop = asyncio.get_running_loop()
        self._underlay: Underlay | None = None
        self._waiting: deque[Publish] = deque()  # nothing of them was written
        self._scheduled = False  # `_flush` will run
        self._pauses = 0  # reasons to begin no publish
        self._reset()

    def _reset(self) -> None:
        """Everything that lives as long as a channel."""
        self._sent: dict[int, Publish] = {}  # by delivery tag: (being) written, not confirmed
        self._tag = 0  # of the last one
        self._octets = 0  # of their bodies
        self._probe: Publish | None = None  # of them, one larger than the broker has proven
        self._slices: Iterator[bytearray] | None = None  # the rest of the last one's body
        self._is_partial = False  # that has not left whole
        self._undrained = 0  # octets written since the socket was known to have room
        self._drained: asyncio.Future[None] | None = None  # while we wait for that
        self._last: Publish | None = None  # that was written, or is being written
        self.is_late = False  # a publish is too old: new mail is better off elsewhere
        self._sample: Publish | None = None  # put while it was late, to see whether it still is
        self._shared: tuple[Tail, bytearray] | None = None  # one that is a single slice, its frames

    @property
    def is_owed(self) -> bool:
        """Something is unconfirmed, or waits, and not for us."""
        return bool(self._sent) or (bool(self._waiting) and not self._pauses)

    @property
    def takes_sample(self) -> bool:
        """It is late, and a message may show whether it still is."""
        return self.is_late and (self._sample is None or self._sample.delivery is None)

    @property
    def is_writing_first(self) -> bool:
        """The only one that is unconfirmed is still on its way into the socket."""
        return len(self._sent) == 1 and (self._slices is not None or self._drained is not None)

    @property
    def unconfirmed(self) -> int:
        """Publishes that were written, or begun, and are not settled."""
        return sum(publish.delivery is not None for publish in self._sent.values())

    def put(self, message: Sequence[Outgoing], delivery: Delivery) -> None:
        """Take one message while `is_open`; it leaves when the loop comes round."""
        put = now()
        for position, outgoing in enumerate(message):
            self._waiting.append(Publish(outgoing, delivery, position, put))
        if self.is_late:
            self._sample = self._waiting[-1]
        if not self._scheduled:
            self._schedule()

    def attach(self, underlay: Underlay, broken: Callable[[], None]) -> None:
        """Begin to publish over this new channel; `broken` must lead to `detach`."""
        self._underlay = underlay
        self._broken = broken
        self.is_doubtful = False
        self._encoder = self._make_encoder(underlay.number, underlay.frame_max)
        underlay.listen(self)
        self.is_open = True
        if not self._scheduled:
            self._schedule()

    def detach(self, reason: BaseException | None) -> bool:
        """The channel is gone, or is to be given up: what is on it is settled.

        True where it was closed for a body that is too large: then others go on waiting for the
        next channel, or for `settle_waiting`.
        """
        sent = self._sent
        refusal = limits.refusal(reason)
        self._let_go()
        self._reset()
        self.is_open = refusal is not None
        if refusal is None:
            self.settle_waiting(replies.NOT_STORED)
        else:
            self._limit.lower(refusal[1])
        for publish in sent.values():
            if refusal is not None and publish.size > refusal[1]:
                publish.settle(replies.TOO_LARGE)
            else:
                self.metrics.broker_lost += publish.delivery is not None
                publish.settle(replies.NOT_STORED)
        return refusal is not None

    def _let_go(self) -> None:
        """Write no more, and hear no more: the next channel's tags count from 1 again."""
        underlay, self._underlay = self._underlay, None
        if underlay is not None:
            underlay.listen(None)

    def adopt(self, other: "Publisher") -> None:
        """Take over what another one has not begun to write, and the mail that comes."""
        other.is_open = False
        self._waiting, other._waiting = other._waiting, self._waiting
        self.is_open = True

    def pause(self) -> None:
        """Begin no publish until `resume` was called as often; what is put waits."""
        self._pauses += 1

    def resume(self) -> None:
        """See `pause`."""
        self._pauses -= 1
        if not self._scheduled:
            self._schedule()

    def settle_waiting(self, refusal: Reply) -> None:
        """Settle what was not written yet; take no more unless a channel is attached."""
        self.is_open = self._underlay is not None
        waiting, self._waiting = self._waiting, deque()
        for publish in waiting:
            publish.settle(refusal)

    def settle_old(self, before: float, refusal: Reply) -> int:
        """Settle what was put `before` (monotonic seconds): how many publishes were not settled.

        Those that were written stay in the window until the broker speaks of them.
        """
        old = []
        for publish in self._sent.values():
            if publish.put > before:
                break
            if publish.delivery is not None:
                old.append(publish)
        late = sum([publish.give_up(refusal) for publish in old])
        while self._waiting and self._waiting[0].put <= before:
            self._waiting.popleft().settle(refusal)
            late += 1
        return late

    def expire(self, before: float) -> None:
        """Let go of what was put `before` (monotonic seconds; earlier where it is large).

        What was not written is settled as not stored, the rest waits for the broker nevertheless:
        while the oldest of that is so old, the publisher is late.
        """
        self._patience = now() - before
        for publish in self._sent.values():
            if publish.put > before:
                break
            if publish.is_older(before):
                self.is_late |= publish.put > self._in_time_at
                if publish.expire() and (publish is not self._last or not self._is_partial):
                    publish.drop_body()
        if self._waiting and self._waiting[0].put <= before:
            waiting, self._waiting = self._waiting, deque()
            for publish in waiting:
                if publish.is_older(before):
                    self.is_late = True
                    publish.settle(replies.NOT_STORED)
                else:
                    self._waiting.append(publish)

    # What the broker says of publishes

    def acked(self, tag: int, multiple: bool) -> None:
        """See `ConfirmListener`."""
        self._confirm(tag, multiple, None)

    def nacked(self, tag: int, multiple: bool) -> None:
        """See `ConfirmListener`."""
        self._confirm(tag, multiple, replies.NACKED)

    def returned(self, header: bytes, reason: str) -> None:
        """See `ConfirmListener`; raises ValueError where nobody knows whose ack must not count."""
        lost = message_id(header)
        found = [publish for publish in self._sent.values() if publish.outgoing.id == lost]
        if not found:
            raise ValueError("a message came back that was not sent")
        for publish in found:
            publish.refusal = replies.UNROUTABLE
            self.metrics.broker_returned += 1
            self._unstored.returned(reason, publish.outgoing.route)

    def _confirm(self, tag: int, multiple: bool, refusal: Reply | None) -> None:
        """Raises ValueError for a publish that the broker cannot have."""
        if tag < 1 or tag > self._tag or (tag == self._tag and self._is_partial):
            raise ValueError(f"publish {tag} is confirmed, and {self._tag} have begun")
        sent, metrics = self._sent, self.metrics
        tags = _up_to(tag, sent) if multiple else [tag]
        for each in tags:
            publish = sent.pop(each, None)
            if publish is None:
                continue
            self._octets -= publish.size
            if publish is self._probe:
                self._probe = None
                self._limit.proven = max(self._limit.proven, publish.size)
            if refusal is not None:
                self.nacks += 1
                metrics.broker_nacked += 1
                self._unstored.nacked(publish.outgoing.route)
            else:
                self.acks += 1
                if publish.refusal is None:
                    metrics.broker_confirmed += 1
                    metrics.confirm_seconds.since(publish.begun)
            if publish is self._sample:
                self._judge(publish, refusal)
            publish.settle(refusal or publish.refusal)
        if self._waiting and not self._scheduled:
            self._schedule()

    def _judge(self, sample: Publish, refusal: Reply | None) -> None:
        """What was put while it was late is answered: it is late no more where that came early."""
        self._sample = None
        if refusal is None and now() - sample.put <= self._patience / 2:
            self.is_late = False
            self._in_time_at = sample.put

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what window and socket have room for."""
        self._scheduled = False
        try:
            while (underlay := self._underlay) is not None and self._drained is None:
                if not underlay.is_open or not self._write(underlay):
                    return
                if self._undrained >= UNDRAINED:
                    self._rest(underlay)
                    return
        except Exception:
            log.exception("error while publishing; the connection is given up")
            self._let_go()
            self._broken()

    def _write(self, underlay: Underlay) -> bool:
        """One buffer; False where there was nothing to write."""
        frames = next(self._slices, None) if self._slices is not None else None
        if frames is None:
            self._slices = None
            if not self._pauses:
                self._fill()
            if not self._encoder.size:
                return False
            frames = self._encoder.take()
        self._undrained += len(frames)
        underlay.send(frames)
        return True

    def _rest(self, underlay: Underlay) -> None:
        """Let others have their turn, and the socket take what was written."""
        self._undrained = 0
        if underlay.has_drained:
            self.drains += 1
            self._schedule()
        else:
            self._drained = underlay.drained()
            self._drained.add_done_callback(self._on_drained)

    def _fill(self) -> None:
        """Encode what may leave now, up to a slice, or to the head of one that needs several."""
        encoder, waiting, sent = self._encoder, self._waiting, self._sent
        begun, timestamp = now(), int(time.time())
        while waiting and encoder.size < SLICE:
            publish = waiting[0]
            if publish.size > self._limit.maximum:
                waiting.popleft()
                self._loop.call_soon(publish.settle, replies.TOO_LARGE)
                continue
            if sent and not self._fits(publish):
                return
            waiting.popleft()
            self._tag += 1
            sent[self._tag] = publish
            self._octets += publish.size
            if publish.size > self._limit.proven:
                self._probe = publish
            publish.begun = begun
            self._last = publish
            self.metrics.broker_published += 1
            outgoing = publish.outgoing
            if not encoder.publish(
                outgoing.id,
                outgoing.priority,
                outgoing.encoding,
                outgoing.prefix,
                outgoing.tail,
                outgoing.accepted or timestamp,
                outgoing.route,
                outgoing.fingerprint,
            ):
                self._slices = self._slice(outgoing.tail)
                self._is_partial = True
                return

    def _fits(self, publish: Publish) -> bool:
        """Whether it may fly beside what is in flight."""
        return (
            len(self._sent) < self._window
            and self._octets + publish.size <= MAX_OCTETS
            and self._probe is None
            and publish.size <= self._limit.proven
        )

    def _slice(self, tail: Tail) -> Iterator[bytearray]:
        """The body frames of a tail; recipients of one message share those of a single slice."""
        rest = Reader(tail)
        if tail.size > SLICE:
            while rest.left:
                frames = self._encoder.slice(rest, SLICE)
                self._is_partial = rest.left > 0
                yield frames
            return
        shared = self._shared
        if shared is None or shared[0] is not tail:
            shared = self._shared = (tail, self._encoder.slice(rest, SLICE))
        self._is_partial = False
        yield shared[1]
        if not self._waiting or self._waiting[0].outgoing.tail is not tail:
            self._shared = None

    def _on_drained(self, drained: "asyncio.Future[None]") -> None:
        failed = drained.cancelled() or drained.exception() is not None
        if drained is self._drained and not failed:
            self._drained = None
            self.drains += 1
            self._flush()


def _up_to(tag: int, sent: dict[int, Publish]) -> list[int]:
    """The delivery tags of `sent`, which stand in their order, up to this one."""
    found = []
    for each in sent:
        if each > tag:
            break
        found.append(each)
    return found
