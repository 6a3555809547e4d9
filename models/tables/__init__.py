"""The rows.  Whoever imports one table gets the metadata of all, so that foreign keys always find their target."""

from models.tables import access, batches, environments, evals, files, jobs, transcripts, usage, webhooks

__all__ = ["access", "batches", "environments", "evals", "files", "jobs", "transcripts", "usage", "webhooks"]
