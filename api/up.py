"""How does `tram up` bring everything up, and take it down again?

One supervisor over the stack.  It says what it does while it does it, and why, and where the log is, when something fails.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from api import stack
from infra import ports
from infra.database import Database
from infra.engine.choice import served_card
from infra.processes import Child, ChildFailed, Event, Step, Supervisor
from infra.redis_server import lock_data_dir
from infra.schema import migrate
from infra.settings import Settings
from models import accounts
from models.cards.card import Card
from models.errors import Conflict

_LOG_LINES_SHOWN = 8


async def everything(settings: Settings, console: Console) -> int:
    """The exit status.  Raises Conflict, Unavailable before anything was started."""
    if ports.port_taken(settings.host, settings.port):
        holder = ports.port_holder(settings.port)
        raise Conflict(f"port {settings.port} is taken{f' by {holder}' if holder else ''}; stop it, or set TRAM_PORT")
    with ExitStack() as held:
        lock = held.enter_context(lock_data_dir(settings.data_dir))
        card = await _card(settings)
        migrate(settings.database)
        key = first_key(settings)
        if key is not None:  # now, since a start that fails later would have shown it never
            console.print(f"Your API key, shown this once: [bold]{escape(key)}[/bold]", highlight=False, soft_wrap=True)
        return await _supervise(
            _stack(settings, card), console, hold=(lock,), ready=lambda: _welcome(console, settings, card, key)
        )


async def worker(settings: Settings, console: Console) -> int:
    card = await _card(settings)
    if settings.engine_url:
        return await _supervise([_plainly(stack.worker_child(settings, card, settings.engine_url))], console)
    port = ports.free_port("127.0.0.1")
    engine = stack.engine_child(settings, card, port)
    worker = stack.worker_child(settings, card, _local(port), needs=("engine",))
    return await _supervise([replace(engine, log=None, aloud=True), _plainly(worker)], console)


def _plainly(child: Child) -> Child:
    """Its log on this process's own output, line by line as it is: a container's log is what its processes say, and read as JSON."""
    return replace(child, log=None)


def first_key(settings: Settings) -> str | None:
    """The key made at the first start, to be shown; None when there are keys already, or the operator has chosen this one."""
    database, now_ms = Database(settings.database), time.time_ns() // 1_000_000
    with database.transaction() as session:
        if accounts.first_account(session) is not None:
            return None
        account = accounts.create_account(session, "default", now_ms)
        key = accounts.create_key(session, account, "first", now_ms, settings.api_key or None)
    return None if settings.api_key else key


async def _card(settings: Settings) -> Card:
    return await served_card(model=settings.model, engine_url=settings.engine_url, engine_model=settings.engine_model)


def _stack(settings: Settings, card: Card) -> list[Child]:
    children = [] if settings.redis_url else [stack.redis_child(settings)]
    needs = tuple(child.name for child in children)
    engine_url = settings.engine_url
    if not engine_url:
        port = ports.free_port("127.0.0.1")
        children.append(stack.engine_child(settings, card, port))
        engine_url = _local(port)
    worker = stack.worker_child(settings, card, engine_url, needs=needs)
    return [*children, worker, stack.upkeep_child(settings, needs=needs), stack.api_child(settings, needs=needs)]


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def _supervise(
    children: Sequence[Child], console: Console, *, hold: tuple[int, ...] = (), ready: Callable[[], None] | None = None
) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    missing = {child.name for child in children}

    def report(event: Event) -> None:
        _show(console, event)
        if event.step is Step.READY and event.child in missing:
            missing.discard(event.child)
            if not missing and ready is not None:
                ready()

    try:
        await Supervisor(children, report, hold=hold).run(stop)
    except ChildFailed as error:
        console.print(f"[red]{escape(error.message)}[/red]", highlight=False, soft_wrap=True)
        for line in error.last_lines[-_LOG_LINES_SHOWN:]:
            console.print(f"  {escape(line)}", highlight=False, style="dim", soft_wrap=True)
        return 1
    return 0


_WORDS = {
    Step.STARTING: "starting",
    Step.READY: "[green]ready[/green] after {seconds:.1f} s",
    Step.DIED: "[red]{detail}[/red]",
    Step.RESTARTING: "starting again in {seconds:.1f} s",
    Step.STOPPING: "stopping",
    Step.STOPPED: "stopped after {seconds:.1f} s",
}


def _show(console: Console, event: Event) -> None:
    words = _WORDS[event.step].format(seconds=event.seconds, detail=escape(event.detail))
    console.print(f"[bold]{event.child:>8}[/bold]  {words}", highlight=False, soft_wrap=True)


def _welcome(console: Console, settings: Settings, card: Card, key: str | None) -> None:
    root = settings.url
    console.print(f"\nTramontane serves [bold]{card.id}[/bold] at [bold]{root}/v1[/bold]", highlight=False)
    if card.toy:
        console.print("[yellow]This is a toy model: it knows some dialogues by heart and nothing else.[/yellow]")
    if key is None and not settings.api_key:
        console.print(
            "Your keys are as before (`tram keys create` makes another).  Ctrl-C stops everything.\n",
            highlight=False,
            soft_wrap=True,
        )
        return
    body = '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": true}'
    bearer = f"'Authorization: Bearer {key}'" if key else '"Authorization: Bearer $TRAM_API_KEY"'
    console.print(f"curl -N {root}/v1/chat/completions -H {bearer} \\", highlight=False, soft_wrap=True)
    console.print(f"  -H 'Content-Type: application/json' -d '{escape(body)}'\n", highlight=False, soft_wrap=True)
