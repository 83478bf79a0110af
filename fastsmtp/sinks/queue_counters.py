"""What a worker counts of the queue file, and how it and the file's size are shown."""

from fastsmtp._durations import Durations
from fastsmtp.counters import Counters
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
