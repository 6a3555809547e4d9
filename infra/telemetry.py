"""What do processes tell of themselves?  Logs of one shape, and metrics whose names all stand here."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.fleet import Worker

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

REQUESTS = Counter("tram_http_requests_total", "Requests answered, by route and status", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "tram_http_first_byte_seconds", "Until the status line of an answer", ["route"], buckets=_SECONDS
)
JOBS_ACCEPTED = Counter("tram_jobs_accepted_total", "Jobs accepted, by door", ["door"])
REFUSALS = Counter("tram_refusals_total", "Requests refused, by the error's code", ["code"])

_WORKER = ("worker", "card")


class FleetMetrics(Collector):
    """What the workers tell of themselves, as `workers` knows it when Prometheus asks.  Any API process shows them all."""

    def __init__(self, workers: Callable[[], Iterable[Worker]]) -> None:
        self._workers = workers

    @staticmethod
    def describe() -> Iterator[Metric]:
        return _families(())

    def collect(self) -> Iterator[Metric]:
        return _families(self._workers())


def _families(workers: Iterable[Worker]) -> Iterator[Metric]:
    running = GaugeMetricFamily("tram_worker_running", "Jobs a worker holds now", labels=_WORKER)
    capacity = GaugeMetricFamily("tram_worker_capacity", "Jobs it holds at most", labels=_WORKER)
    ready = GaugeMetricFamily("tram_worker_engine_ready", "1 while its engine takes requests", labels=_WORKER)
    jobs = CounterMetricFamily("tram_worker_jobs_total", "Jobs ended, whichever way", labels=_WORKER)
    tokens = CounterMetricFamily(
        "tram_worker_tokens_total",
        "Tokens of the jobs it has ended: `prompt`, `cached` (of the prompt's) and `completion`",
        labels=(*_WORKER, "kind"),
    )
    for worker in workers:
        who, totals = (worker.name, worker.card), worker.totals
        running.add_metric(who, worker.running)
        capacity.add_metric(who, worker.capacity)
        ready.add_metric(who, worker.engine.ready)
        jobs.add_metric(who, totals.jobs)
        tokens.add_metric((*who, "prompt"), totals.prompt_tokens)
        tokens.add_metric((*who, "cached"), totals.cached_tokens)
        tokens.add_metric((*who, "completion"), totals.completion_tokens)
    return iter((running, capacity, ready, jobs, tokens))


def set_up_logging(level: str) -> None:
    """One line an event on standard error: for people where it is a terminal, JSON where it is not."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    last: list[structlog.types.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        renderer,
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
