"""The rows.  Whoever imports one table gets the metadata of all, so that foreign keys always find their target."""

from models.tables import access, environments, jobs, replays, transcripts, usage, webhooks

__all__ = ["access", "environments", "jobs", "replays", "transcripts", "usage", "webhooks"]
