"""How do an answer's tokens get from the worker that makes them to the clients that wait, through any API replica?

One Redis Stream a job.  `entry` is what lies in it, `writer` puts it there for all jobs of a worker, `reader` follows any number of
them on one connection.  The stream is a relay, not a store: the job row holds the answer in the end.
"""

from infra.token_stream.entry import NOTHING, NUMBER_MOST, START, Counts, Entry, EventId, Fenced, read_all, take_over
from infra.token_stream.reader import Follower, TokenReader
from infra.token_stream.writer import TokenWriter

__all__ = [
    "NOTHING",
    "NUMBER_MOST",
    "START",
    "Counts",
    "Entry",
    "EventId",
    "Fenced",
    "Follower",
    "TokenReader",
    "TokenWriter",
    "read_all",
    "take_over",
]
