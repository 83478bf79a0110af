"""The tables of a queue file, and the steps that lead from each version of them to the next.

Takes a connection with an open transaction; makes the tables in an empty file and brings those of
an older fastsmtp up to date. No step reads or copies mail, so each takes as long for 10 GB as for
an empty file.
"""

import sqlite3

APPLICATION_ID = 0x46534D51
"""What `file` and we know our files by (PRAGMA application_id): "FSMQ"."""

_SCHEMA_1 = """
CREATE TABLE messages (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival, never used twice
    id       TEXT NOT NULL UNIQUE,               -- the property message-id
    priority INTEGER,                            -- AMQP priority
    encoding TEXT NOT NULL,                      -- the property mime-encoding, or empty
    stored   INTEGER NOT NULL,                   -- seconds since 1970, UTC
    prefix   BLOB NOT NULL,                      -- the JSON body is prefix || tail
    tail     BLOB NOT NULL
)
"""

_STEPS = ((_SCHEMA_1, f"PRAGMA application_id = {APPLICATION_ID}"),)
"""What leads from each version to the next: the first step from an empty file to schema 1."""

SCHEMA_VERSION = len(_STEPS)
"""PRAGMA user_version of the files that this code writes."""


def upgrade(db: sqlite3.Connection) -> None:
    """Take the steps that are missing, if any are, within the transaction that is open."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for number, step in enumerate(_STEPS[version:], version + 1):
        for statement in step:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
