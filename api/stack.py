"""Which processes make up a Tramontane, and how is each started?

A description for `infra.processes`: names, commands, variables, readiness.  It names what runs (`workers.app`, `workers.upkeep`)
and imports none of it.
"""

import sys
import time
from pathlib import Path

import aiohttp

from infra import fleet, redis, redis_server
from infra.engine import environment, failures, server
from infra.engine.watch import EngineWatch
from infra.processes import Child
from infra.settings import Settings
from models.cards.card import Card
from models.errors import Unavailable
from models.placement import queues_of

_ENGINE_START_S = 900.0  # 14 GB of weights from a cold disk, and their first compilation
_ENGINE_STOP_S = 20.0
_START_S = 60.0
_STOP_S = 10.0
_IDLE_S = 75  # more than the 5 s of httpx and the 60 s of most balancers: who reuses a connection is to drop it
_HTTP_OK = 200
_PYTHON = (sys.executable, "-P")
"""Blind to the directory that it is started in: a project there may well have packages named `api`, `models` or `workers`, too."""
_ROOT = Path(__file__).parents[1]
_CELERY = "import sys, workers.app; from celery.__main__ import main; sys.argv[0] = 'celery'; sys.exit(main())"
"""It looks for its app in that directory first, unless the app is there already."""
_WAYS = (
    "`tram engine install` makes the environment for a CPU; or set TRAM_ENGINE_URL to any OpenAI-compatible server; "
    "or run on a machine with a GPU, with TRAM_ENGINE_ENV naming an environment that holds SGLang."
)


def redis_child(settings: Settings) -> Child:
    return redis_server.child(redis_server.find_server(), data_dir=settings.data_dir, socket=settings.redis_socket)


def engine_child(settings: Settings, card: Card, port: int) -> Child:
    """SGLang, from its own environment.  Raises Unavailable with what to do when it cannot run here."""
    device = server.device_for(card, server.device())
    if problem := environment.problem(settings.engine_environment, device):
        raise Unavailable(f"{problem}  {_WAYS}")
    url = f"http://127.0.0.1:{port}"
    return Child(
        name="engine",
        argv=server.command(
            card,
            env=settings.engine_environment,
            port=port,
            device=device,
            gpu=server.gpu_for(device),
            deterministic=settings.engine_deterministic,
        ),
        variables=server.variables(card, device),
        ready=lambda: server.is_ready(url),
        start_s=_ENGINE_START_S,
        stop_s=_ENGINE_STOP_S,
        log=_log(settings, "engine"),
        alive=EngineWatch(url).complaint,
        unwell_s=settings.engine_stuck_s,
        explain=failures.explain,
    )


def worker_child(settings: Settings, card: Card, engine_url: str, *, needs: tuple[str, ...] = ()) -> Child:
    began = time.time()
    return Child(
        name="worker",
        argv=worker_command(settings, card, joined=bool(settings.engine_url)),
        variables=worker_variables(settings, card, engine_url),
        ready=lambda: _announced(settings, began),
        start_s=_START_S,
        stop_s=settings.drain_s + _STOP_S,
        needs=needs,
        log=_log(settings, "worker"),
    )


def worker_command(settings: Settings, card: Card, *, joined: bool) -> tuple[str, ...]:
    jobs = settings.concurrency or (card.concurrency if joined else server.concurrency(card))
    options = ("--concurrency", str(jobs), "--queues", ",".join(queues_of(card.id)), "--card", card.model_dump_json())
    quiet = (
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    )  # workers meet in the database, not in Redis
    joining = ("--joined",) if joined else ()
    return (*_PYTHON, "-c", _CELERY, "--quiet", "--app", "workers.app", "worker", *options, *quiet, *joining)


def worker_variables(settings: Settings, card: Card, engine_url: str) -> dict[str, str | None]:
    return {
        "TRAM_ENGINE_URL": engine_url,
        "TRAM_ENGINE_MODEL": settings.engine_model
        or (card.weights if settings.engine_url and not settings.model else card.id),
        "TRAM_MODEL": settings.model,
    }


def upkeep_child(settings: Settings, *, needs: tuple[str, ...] = ()) -> Child:
    return Child(
        name="upkeep",
        argv=upkeep_command(),
        variables={},
        ready=_at_once,
        start_s=_START_S,
        stop_s=_STOP_S,
        needs=needs,
        log=_log(settings, "upkeep"),
    )


def upkeep_command() -> tuple[str, ...]:
    return (*_PYTHON, "-m", "workers.upkeep")


def api_child(settings: Settings, *, needs: tuple[str, ...] = ()) -> Child:
    return Child(
        name="api",
        argv=api_command(settings),
        variables={},
        ready=lambda: _answers(f"http://{_reachable(settings.host)}:{settings.port}/ready"),
        start_s=_START_S,
        stop_s=_STOP_S,
        needs=needs,
        log=_log(settings, "api"),
    )


def api_command(settings: Settings) -> tuple[str, ...]:
    where = ("--host", settings.host, "--port", str(settings.port))
    how = (
        "--factory",
        "--loop",
        "uvloop",
        "--http",
        "api.protocol:Protocol",
        "--no-access-log",
        "--timeout-keep-alive",
        str(_IDLE_S),
        "--timeout-graceful-shutdown",
        "5",
    )
    return (*_PYTHON, "-m", "uvicorn", "--app-dir", str(_ROOT), "api.app:create_app", *where, *how)


def _log(settings: Settings, name: str) -> Path:
    return settings.data_dir / "logs" / f"{name}.log"


async def _at_once() -> bool:
    return True


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
        return answer.status == _HTTP_OK


async def _announced(settings: Settings, since: float) -> bool:
    """Whether a worker that started here after `since`, and still runs, has shown itself."""
    client = redis.client(settings.redis, connections=2)
    try:
        told = await fleet.read(client)
    except redis.FAULTS:
        return False
    finally:
        await client.aclose()
    return any(worker.since >= since and fleet.runs_here(worker) for worker in told.workers)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
