"""Where mail goes by the settings, and whether it would be accepted there now.

For `fastsmtp check --connect`: logs in to the broker, or opens the queue file where it exists.
Creates and publishes nothing.
"""

import os

import uvloop

from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq.examination import Examination, Found
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreFullError

Verdict = tuple[bool, list[str], list[str]]
"""Mail would be accepted; lines that are good news; lines that say what is wrong."""


def examine(settings: Settings) -> Verdict:
    """Look; takes ten seconds per address that does not answer.

    Raises OSError or ValueError where the settings can never work.
    """
    return _broker(settings) if settings.rabbitmq_address else _queue_file(settings)


def _broker(settings: Settings) -> Verdict:
    found = uvloop.run(_examined(settings))
    return (
        any(not each.bad for each in found),
        [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.good],
        [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.bad],
    )


async def _examined(settings: Settings) -> list[Found]:
    return await Examination(settings).run()


def _queue_file(settings: Settings) -> Verdict:
    path = settings.queue_file
    where = f"rabbitmq-address is none: mail goes into the queue file {path}"
    if not os.path.exists(path):
        return True, [f"{where}, which will be made"], []
    try:
        store = Store(path, settings.queue_maxsize)
    except OSError as error:
        return False, [where], [f"{error}: mail will be answered 451 4.3.0"]
    try:
        count, room = store.count(), store.room()
    except StoreFullError as error:
        return False, [where], [f"{error}: mail will be answered 452 4.3.1"]
    except OSError as error:
        return False, [where], [f"{error}: mail will be answered 451 4.3.0"]
    finally:
        store.close()
    line = f"{where}: it holds {count} messages and has room for {room} bytes"
    full = [] if room > 0 else [f"{path} is full: mail will be answered 452 4.3.1"]
    return not full, [line], full
