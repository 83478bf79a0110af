"""The queue file as a snapshot: how much is in it, whoever writes it.

Blocks: call it in a thread. All workers share one file, so it is asked once, not by each of them.
"""

import logging

from fastsmtp.metrics import Snapshot
from fastsmtp.settings import Settings
from fastsmtp.sinks.store import Store

log = logging.getLogger(__name__)


def snapshot(settings: Settings) -> Snapshot:
    """What is in the file that `settings` name; empty where there is none, or it is unusable."""
    path = settings.rabbitmq_spill if settings.rabbitmq_address else settings.queue_file
    if not path:
        return {}
    try:
        store = Store(path)
    except OSError as error:
        log.debug("%s", error)
        return {}
    try:
        return {
            "queue_messages": store.span(),
            "queue_octets": store.octets(),
            "queue_limit": settings.queue_maxsize,
        }
    except OSError as error:
        log.debug("%s", error)
        return {}
    finally:
        store.close()
