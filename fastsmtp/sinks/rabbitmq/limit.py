"""The largest AMQP body that the broker takes: from the settings or its version, lowered by a 406.

A body over the broker's maximum closes the channel (406) and takes every unconfirmed publish on it
along. So a size that the broker has not confirmed yet is unproven: it travels alone.
"""

import logging
import re

from fastsmtp.availability import Availability

log = logging.getLogger(__name__)

MIB = 1024 * 1024
BEFORE_4 = 128 * MIB
"""Default `max_message_size` of RabbitMQ 3.x."""
SINCE_4 = 16 * MIB
"""Default of RabbitMQ 4.x; taken for brokers that do not tell their version, too."""
HARMLESS = 64 * 1024
"""Octets that every broker takes."""

_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")


def refusal(reason: BaseException | None) -> tuple[int, int] | None:
    """(size of the body, the broker's maximum) where a channel ended because a body was larger."""
    found = _TOO_LARGE.search(str(reason))
    return (int(found[1]), int(found[2])) if found else None


class BodyLimit:
    """One broker's (or cluster's) limit; writes it to `Availability`."""

    def __init__(self, configured: int | None, availability: Availability) -> None:
        self._configured = configured  # octets, rabbitmq-maxsize
        self._lowest: int | None = None  # octets, the smallest maximum that a 406 named
        self._availability = availability
        # Until the version is known, nothing is refused for good that it may take.
        self.maximum = BEFORE_4 if configured is None else configured  # octets
        self.proven = HARMLESS  # octets; largest size that the broker has confirmed
        availability.limit_body(self.maximum)

    def assume(self, maximum: int) -> None:
        """Until a connection is up the limit is `maximum`, unless the settings say another one."""
        if self._configured is None:
            self.maximum = maximum
            self._availability.limit_body(maximum)

    def connected(self, version: str) -> None:
        """A connection is up to a broker of this version; what older ones have proven is void."""
        major = version.partition(".")[0]
        default = BEFORE_4 if major.isdigit() and int(major) < 4 else SINCE_4
        self.maximum = default if self._configured is None else self._configured
        if self._lowest is not None:
            self.maximum = min(self.maximum, self._lowest)
        self.proven = HARMLESS
        self._availability.limit_body(self.maximum)

    def lower(self, maximum: int) -> None:
        """A 406 named the broker's `maximum`; holds until the worker ends."""
        before = self.maximum
        self._lowest = maximum if self._lowest is None else min(maximum, self._lowest)
        self.maximum = min(self.maximum, self._lowest)
        self._availability.limit_body(self.maximum)
        if self.maximum < before:
            log.warning(
                "RabbitMQ refused a body as too large (406): its max_message_size is %d bytes, not "
                "%d. EHLO says SIZE %d from now on; for larger mail raise max_message_size in "
                "rabbitmq.conf",
                self.maximum,
                before,
                self._availability.maxsize,
            )

    def __str__(self) -> str:
        return (
            f"bodies of at most {self.maximum} bytes, EHLO says SIZE {self._availability.maxsize}"
        )
