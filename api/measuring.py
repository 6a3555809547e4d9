"""How does a suite become answers?  Over HTTP, at any server that speaks OpenAI's evals: begin or join, watch, fetch.

A suite's eval carries the suite's digest in its metadata, and the time at which its report was written: one of this digest without a
report was interrupted and is joined, runs and all, from whichever machine.  Every creation has an Idempotency-Key, so one whose answer
was lost is asked for again and not made twice.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from api.caller import ServiceClient
from models.grading.output_items import run_of
from models.grading.results import Run
from models.grading.suite import Suite, Variant, digest, eval_body, run_body

SUITE, REPORTED, VARIANT = "tram_suite", "tram_reported", "tram_variant"
"""Names in metadata."""
PAUSE_S = 1.0
_INLINE_BYTES = 1 << 20
"""More rows than fit in this go up as a file."""
_PAGE = 100
_OPEN = {"queued", "in_progress"}
_LOST = {"failed", "canceled"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Begun:
    """An eval and its runs, by the variants' names."""

    eval_id: str
    runs: Mapping[str, str]
    joined: bool


def start(client: ServiceClient, suite: Suite, rows: list[Row], *, anew: bool = False) -> Begun:
    """The suite's runs: those that were interrupted, or new ones."""
    mark = digest(suite, rows)
    known = [each for each in _all(client, "/v1/evals") if (each.get("metadata") or {}).get(SUITE) == mark]
    left = [] if anew else [each for each in known if REPORTED not in each["metadata"]]
    made = left[0] if left else _new_eval(client, suite, mark)
    theirs = _runs(client, made["id"]) if left else {}
    missing = [variant for variant in suite.variants if variant.name not in theirs]
    if missing:
        source = _source(client, rows)
        theirs |= {each.name: _new_run(client, suite, each, made["id"], source) for each in missing}
    return Begun(made["id"], {each.name: theirs[each.name] for each in suite.variants}, joined=bool(left))


def watch(client: ServiceClient, begun: Begun) -> Iterator[dict[str, Row]]:
    """How the runs stand, every second until all have ended; a service that is away for less than a minute is waited for."""
    while True:
        views = {
            name: client.patiently("GET", f"/v1/evals/{begun.eval_id}/runs/{run}") for name, run in begun.runs.items()
        }
        yield views
        if all(view["status"] not in _OPEN for view in views.values()):
            return
        time.sleep(PAUSE_S)


def fetch(client: ServiceClient, eval_id: str, run_id: str, name: str | None = None) -> Run:
    """A run with all its answers."""
    path = f"/v1/evals/{eval_id}/runs/{run_id}"
    view = client.ask("GET", path)
    return run_of(view | {"name": name or view.get("name")}, _all(client, f"{path}/output_items"))


def reported(client: ServiceClient, eval_id: str) -> None:
    """The eval is done with: who runs the suite again asks anew."""
    view = client.ask("GET", f"/v1/evals/{eval_id}")
    client.ask("POST", f"/v1/evals/{eval_id}", {"metadata": view["metadata"] | {REPORTED: str(int(time.time()))}})


def _new_eval(client: ServiceClient, suite: Suite, mark: str) -> Row:
    return client.patiently("POST", "/v1/evals", eval_body(suite, {SUITE: mark}))


def _runs(client: ServiceClient, eval_id: str) -> dict[str, str]:
    """Runs that are worth joining, by the variant that each is of."""
    found = _all(client, f"/v1/evals/{eval_id}/runs")
    able = [run for run in found if run["status"] not in _LOST]
    return {name: run["id"] for run in able if (name := (run.get("metadata") or {}).get(VARIANT))}


def _new_run(client: ServiceClient, suite: Suite, variant: Variant, eval_id: str, source: Row) -> str:
    body = run_body(suite, variant, source, {VARIANT: variant.name})
    run_id: str = client.patiently("POST", f"/v1/evals/{eval_id}/runs", body)["id"]
    return run_id


def _source(client: ServiceClient, rows: list[Row]) -> Row:
    lines = [orjson.dumps({"item": row}) for row in rows]
    if sum(map(len, lines)) <= _INLINE_BYTES:
        return {"type": "file_content", "content": [{"item": row} for row in rows]}
    with TemporaryDirectory() as folder:
        path = Path(folder, "items.jsonl")
        path.write_bytes(b"\n".join(lines))
        return {"type": "file_id", "id": client.upload(path, "evals")}


def _all(client: ServiceClient, path: str) -> Iterator[Row]:
    """Every page of a list."""
    after, more = "", True
    while more:
        page = client.ask("GET", f"{path}?limit={_PAGE}{f'&after={after}' if after else ''}")
        yield from page["data"]
        more, after = page["has_more"], page["data"][-1]["id"] if page["data"] else ""
