"""What a round can find, by name: the columns of the tables."""

from typing import NamedTuple

Figures = dict[str, float]
"""What one round found, by column."""


class Column(NamedTuple):
    """A figure's heading, and how many digits of it mean something."""

    heading: str
    digits: int


COLUMNS = {
    "cpu": Column("CPU a message, µs", 1),
    "rate": Column("messages/s", 0),
    "p50": Column("p50, ms", 2),
    "p99": Column("p99, ms", 2),
    "worst": Column("slowest, ms", 2),
    "peak": Column("peak memory, MiB", 1),
    "load": Column("load's CPU, %", 0),
    "queued": Column("load without CPU, %", 0),
    "syncs": Column("fdatasyncs/s", 0),
    "resident": Column("resident a connection, KiB", 2),
    "multiple": Column("peak over idle, in messages", 2),
    "large": Column("the large one's own latency, s", 2),
    "each": Column("µs each", 3),
    "octets": Column("GB/s", 2),
}
