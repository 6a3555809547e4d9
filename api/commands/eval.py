"""`tram eval`: is one way of asking better than another?  Runs a suite on a running Tramontane, or compares runs that there are.

Exit status, for CI: 0 passed, 1 a threshold is missed, 2 something went wrong (a run failed, too many answers could not be judged, the
service refused or is away).  Interrupted, the runs go on; the same command joins them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from api import measuring
from api.caller import ServiceClient
from api.commands.console import errors, say
from api.suites import read_suite
from infra.settings import Settings
from models.errors import InvalidRequest, TramError
from models.grading.output_items import runs_in
from models.grading.report import html_of, json_of
from models.grading.results import Run, report_of

app = typer.Typer()
evals = typer.Typer(no_args_is_help=True, help="Evals: suites, comparisons, reports.")
app.add_typer(evals, name="eval")

_EXIT = {"passed": 0, "missed": 1, "errors": 2}
_WRONG, _INTERRUPTED = 2, 130

Key = Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")]
Url = Annotated[str, typer.Option(help="Where the API is; left out: here")]
Out = Annotated[Path, typer.Option(help="Folder that report.html and report.json are written to")]
Slice = Annotated[
    list[str] | None, typer.Option("--slice", help="A field to divide by, such as item.level; may be repeated")
]


@evals.command("run")
def run_suite(
    context: typer.Context,
    suite: Annotated[Path, typer.Argument(help="A suite's YAML file")],
    out: Out = Path(),
    key: Key = "",
    url: Url = "",
    anew: Annotated[bool, typer.Option("--anew", help="Do not join a run that was interrupted")] = False,
) -> None:
    """Run a suite: ask, grade, compare, report; the exit status tells."""
    with _told():
        wanted, rows = read_suite(suite)
        client = _client(context.obj, url, key)
        begun = measuring.start(client, wanted, rows, anew=anew)
        say(f"{'Joining' if begun.joined else 'Began'} {begun.eval_id}: {len(rows)} items, {len(begun.runs)} variants.")
        _watch(client, begun)
        runs = [measuring.fetch(client, begun.eval_id, run, name) for name, run in begun.runs.items()]
        report = report_of(
            wanted.name,
            runs,
            created_at=int(time.time()),
            slices=wanted.slices,
            thresholds=wanted.demands(),
            errors_most=wanted.errors_most,
        )
        _write(report, out)
        measuring.reported(client, begun.eval_id)
    raise typer.Exit(_EXIT[report["verdict"]])


@evals.command()
def compare(
    context: typer.Context,
    first: Annotated[str, typer.Argument(help="eval_…/evalrun_…, or a report.json (#run picks one of its runs)")],
    second: Annotated[str, typer.Argument(help="The same, held against the first")],
    slices: Slice = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a report of the two")] = None,
    key: Key = "",
    url: Url = "",
) -> None:
    """Compare two runs item by item, of this service or out of reports."""
    with _told():
        client = _client(context.obj, url, key)
        runs = [_named(client, each) for each in (first, second)]
        if runs[0].name == runs[1].name:
            runs = [_renamed(run, f"{run.name} ({place})") for run, place in zip(runs, (1, 2), strict=True)]
        report = report_of(f"{runs[0].name} and {runs[1].name}", runs, created_at=int(time.time()), slices=slices or ())
        _write(report, out)


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong is a line, and a status of its own: 1 says that a threshold was missed."""
    try:
        yield
    except TramError as error:
        errors.print(f"[red]tram:[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        raise typer.Exit(_WRONG) from None
    except KeyboardInterrupt:
        errors.print("Interrupted.  The runs go on; the same command joins them.", highlight=False)
        raise typer.Exit(_INTERRUPTED) from None
    except Exception:  # noqa: BLE001 -- a crash would exit with 1
        errors.print_exception()
        raise typer.Exit(_WRONG) from None


def _client(settings: Settings, url: str, key: str) -> ServiceClient:
    return ServiceClient(url or settings.url, key or settings.api_key)


def _watch(client: ServiceClient, begun: measuring.Begun) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=errors) as progress:
        bars = {name: progress.add_task(name, total=None) for name in begun.runs}
        for views in measuring.watch(client, begun):
            for name, view in views.items():
                counts = view["result_counts"]
                done = counts["passed"] + counts["failed"] + counts["errored"]
                progress.update(bars[name], total=counts["total"] or None, completed=done)


def _write(report: dict[str, Any], out: Path | None) -> None:
    _say_scores(report)
    for each in report["comparisons"]:
        say(_difference(each))
    for each in report["thresholds"]:
        met = "met" if each["met"] else "MISSED"
        say(
            f"{met}: {each['grader']} of {each['run']}: {each['what']} {_figure(each['found'])}, wanted {each['wanted']:g}"
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_bytes(json_of(report))
        (out / "report.html").write_text(html_of(report), encoding="utf-8")
        say(f"{out / 'report.html'}: {report['verdict']}")


def _say_scores(report: dict[str, Any]) -> None:
    runs = report["runs"]
    rows = [("", *(run["name"] for run in runs))]
    rows += [(grader, *(_mean(run["scores"][grader]) for run in runs)) for grader in report["graders"]]
    rows += [("passed all", *(f"{run['counts']['passed']} of {run['counts']['total']}" for run in runs))]
    rows += [("errors", *(str(run["counts"]["error"]) for run in runs))]
    rows += [("latency p50, ms", *(_figure(run["latency_ms"]["p50"], 0) for run in runs))]
    rows += [("USD", *(_figure(run["cost_usd"], 4) for run in runs))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # no table of rich's: it would cut names to the terminal's width
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _mean(score: dict[str, Any]) -> str:
    if score["low"] is None:
        return _figure(score["mean"])
    return f"{_figure(score['mean'])} [{_figure(score['low'])}, {_figure(score['high'])}]"


def _difference(each: dict[str, Any]) -> str:
    if each["difference"] is None:
        return f"{each['grader']}: {each['run']} and {each['baseline']} have no items in common"
    interval = "" if each["low"] is None else f" ({each['low']:+.3f} to {each['high']:+.3f})"
    few = ", too few to lean on" if each["few"] else ""
    return (
        f"{each['grader']}: {each['run']} {each['difference']:+.3f}{interval} against {each['baseline']}; {each['wins']} better, "
        f"{each['ties']} same, {each['losses']} worse, p {each['p_value']:.3g}{few}"
    )


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _named(client: ServiceClient, where: str) -> Run:
    eval_id, _, run_id = where.partition("/")
    if eval_id.startswith("eval_") and run_id.startswith("evalrun_"):
        return measuring.fetch(client, eval_id, run_id)
    path, _, name = where.partition("#")
    runs = _reported(Path(path))
    found = [run for run in runs if run.name == name] if name else runs
    if len(found) == 1:
        return found[0]
    raise InvalidRequest(f"{where}: name one of its runs behind a #: {', '.join(run.name for run in runs)}")


def _reported(path: Path) -> Sequence[Run]:
    try:
        return runs_in(orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path}: not a report of an eval: {error}") from None


def _renamed(run: Run, name: str) -> Run:
    return Run(name, run.model, run.answers, run.parameters, run.id, run.status)
