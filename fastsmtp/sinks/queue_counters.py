"""What a worker counts of the queue file, and how it and the file's size are shown."""

from collections import Counter, deque

from fastsmtp._durations import Durations, now
from fastsmtp.counters import IN_A_ROW, LAST_STORED, Counters, Snapshot
from fastsmtp.exposed import Exposed

EXPOSED = {
    "queue_messages": Exposed(
        "gauge",
        "fastsmtp_queue_messages",
        "Messages in the queue file, or in rabbitmq-spill, counted from the oldest to the newest: "
        "a gap counts, too",
    ),
    "queue_oldest": Exposed(
        "gauge",
        "fastsmtp_queue_oldest_seconds",
        "Age of the oldest message in the queue file, or in rabbitmq-spill, in seconds; 0 where "
        "there is none",
    ),
    "queue_octets": Exposed(
        "gauge",
        "fastsmtp_queue_bytes",
        "Size of the queue file, or of rabbitmq-spill, with its write-ahead log in bytes",
    ),
    "queue_limit": Exposed(
        "gauge", "fastsmtp_queue_limit_bytes", "The size that it may have: queue-maxsize"
    ),
    "queue_damaged": Exposed(
        "gauge",
        "fastsmtp_queue_damaged_files",
        "Damaged queue files that were set aside and are still there, recovered or not",
    ),
    "commit_seconds": Exposed(
        "histogram",
        "fastsmtp_commit_seconds",
        "One transaction of the queue file, many messages",
    ),
}


class QueueCounters(Counters):
    """Counts of one worker; the file's size, the same for all, is in `queue_file.snapshot`."""

    exposed = EXPOSED

    def __init__(self) -> None:
        self.commit_seconds = Durations()  # one transaction, until it is on the disk
        # The last messages that the file did not take, though it has room: when (monotonic), why
        self._failures: deque[tuple[float, str]] = deque(maxlen=IN_A_ROW)

    def failed(self, why: str) -> None:
        """The file did not take a message."""
        self._failures.append((now(), why))

    def counted(self) -> Snapshot:
        """See `Counters.counted`; with what `/ready` reads, once there is any."""
        found = super().counted()
        if self._failures:
            found["failures"] = Counter(f"{at:.6f} {why}" for at, why in self._failures)
        if self.commit_seconds.last:
            found[LAST_STORED] = self.commit_seconds.last
        return found
