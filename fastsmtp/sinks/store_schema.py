"""The tables of a queue file, and the steps that lead from each version of them to the next.

Takes a connection with an open transaction; makes the tables in an empty file and brings those of
an older fastsmtp up to date. No step reads or copies mail, so each takes as long for 10 GB as for
an empty file.

A message is a row of `messages` for each recipient. Its JSON body is `prefix` || `tail`. Where
`content` is not NULL, the tail is in the row of `contents` that it names instead: once for all
recipients of a message, or because it is large.

Of a spill's messages each has a row in `spilled`, which is small, so that its state changes without
a write of the mail. `facts` are what a spill knows of its broker.
"""

import sqlite3

APPLICATION_ID = 0x46534D51
"""What `file` and we know our files by (PRAGMA application_id): "FSMQ"."""

ELSEWHERE = 0
"""What `messages.tail` holds where the tail is in `contents`.

It is a number, so that a process of schema 1 that still has the file open fails on it: it must not
take an empty tail for the message and publish that.
"""

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

_CONTENTS = """
CREATE TABLE contents (
    id   INTEGER PRIMARY KEY,  -- seq of the first message that names it; the others follow that one
    tail BLOB NOT NULL
)
"""

_LAST_ONE_OUT = """
CREATE TRIGGER last_one_out AFTER DELETE ON messages WHEN old.content IS NOT NULL
BEGIN
    DELETE FROM contents WHERE id = old.content AND old.content IS NOT
        (SELECT content FROM messages WHERE seq >= old.content ORDER BY seq LIMIT 1);
END
"""
# A trigger, so that processes of schema 1 that have the file open leave no content behind. It needs
# no index, whose making would read the whole file: messages that share a content follow each other,
# so the next one from the content's id on is one of them, or there is none.

_SPILLED = """
CREATE TABLE spilled (
    seq    INTEGER PRIMARY KEY,        -- of `messages`
    due    INTEGER NOT NULL,           -- seconds since 1970 from which on it is published
    holder INTEGER,                    -- the process on whose channel it still is; NULL: none
    tries  INTEGER NOT NULL DEFAULT 0  -- times that the broker did not take it
)
"""

_PUBLISHED_ELSEWHERE = """
CREATE TRIGGER no_longer_spilled AFTER DELETE ON messages
BEGIN
    DELETE FROM spilled WHERE seq = old.seq;
END
"""

_FACTS = "CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"

_STEPS = (
    (_SCHEMA_1, f"PRAGMA application_id = {APPLICATION_ID}"),
    (
        "ALTER TABLE messages ADD COLUMN exchange TEXT",  # NULL, as routing_key: by the settings
        "ALTER TABLE messages ADD COLUMN routing_key TEXT",  # of the day that it is published
        "ALTER TABLE messages ADD COLUMN headers TEXT",  # AMQP headers, a JSON object; NULL: none
        "ALTER TABLE messages ADD COLUMN checksum INTEGER",  # NULL so far
        "ALTER TABLE messages ADD COLUMN content INTEGER",  # an id of `contents`
        _CONTENTS,
        _LAST_ONE_OUT,
    ),
    (
        _SPILLED,
        "CREATE INDEX spilled_due ON spilled (due, seq)",
        _PUBLISHED_ELSEWHERE,
        _FACTS,
    ),
)
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
