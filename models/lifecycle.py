"""Which states does a job have, and which steps between them are allowed?

One table.  `models.jobs` makes each step a compare-and-set on the row, the database repeats the set of states as a check
constraint, the docs draw it.  A wish to cancel is a column, not a state.
"""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    """Accepted and stored; waits for a worker."""
    IN_PROGRESS = "in_progress"
    """Claimed by exactly one attempt, which holds a lease."""
    COMPLETED = "completed"
    """Answered; the result is stored."""
    FAILED = "failed"
    """Ended by an error that trying again would not mend, or that outlived every attempt."""
    CANCELLED = "cancelled"
    """Ended because its owner asked, or hung up."""
    EXPIRED = "expired"
    """Ended by its deadline."""


FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.CANCELLED, JobState.EXPIRED}),
    # Back to the queue only by reclaim, which raises the attempt number.
    JobState.IN_PROGRESS: FINAL | {JobState.QUEUED},
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}
