"""How is SGLang started for a card, and does it take requests yet?

A pure description: the command, the variables, the model's folder.  `infra.processes` runs it, `infra.engine.environment` makes
the Python environment it runs in.  Relies on the card for every flag that is a choice, by class of GPU; adds only what follows
from the place (device, port, names, files).  Binds the loopback address, never another.
"""

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import aiohttp

from infra.engine import gpu as gpus
from models.cards.card import PACKAGED, Card, Device, Flags, catalogue
from models.cards.gpus import Gpu
from models.errors import Unavailable

DEFAULT_CARDS: dict[Device, str] = {"cuda": "mistral-small-24b-instruct-2501-awq", "cpu": "tram-demo"}

_HOST = "127.0.0.1"
_DEVICES = Path("/dev")
_PROBE = aiohttp.ClientTimeout(total=1.0)  # a healthy engine answers in 6 ms
_OK, _NOT_FOUND = 200, 404


def device() -> Device:
    """What this machine offers; the driver is asked for, not PyTorch, which takes seconds to import."""
    has_gpu = any(_DEVICES.glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None
    return "cuda" if has_gpu else "cpu"


def default_card(on: Device) -> Card:
    return catalogue()[DEFAULT_CARDS[on]]


def device_for(card: Card, machine: Device) -> Device:
    """Where on this machine the card is served: a GPU if the card wants one; a toy stays on the CPU beside any GPU."""
    if machine in card.devices:
        return machine
    if "cpu" in card.devices:
        return "cpu"
    raise Unavailable(
        f"{card.id} needs a GPU, and this machine shows none; {default_card('cpu').id} is served without one"
    )


def gpu_for(device: Device) -> Gpu | None:
    """The class of this machine's GPU; None for a CPU, and for a GPU that no class fits."""
    found = gpus.installed() if device == "cuda" else None
    return found.kind if found else None


def concurrency(card: Card) -> int:
    """Jobs a worker holds at once beside the engine that this machine starts for the card.  Raises Unavailable."""
    where = device_for(card, device())
    return card.concurrency_on(where, gpu_for(where))


def model_path(card: Card) -> str:
    """A folder for packaged weights, else the repository that SGLang fetches or finds in its cache."""
    return str(files("infra.engine") / "cpu" / "model") if card.weights == PACKAGED else card.weights


def chat_template(card: Card) -> Path | None:
    """The template that takes the place of the checkpoint's own."""
    return Path(str(files("models.cards") / card.chat_template)) if card.chat_template else None


def determinism(device: Device, *, wanted: bool) -> Flags:
    """SGLang 0.5.23 refuses to start with it on a CPU: none of its batch-invariant attention kernels is for one."""
    return {"enable-deterministic-inference": True} if wanted and device == "cuda" else {}


def command(
    card: Card, *, env: Path, port: int, device: Device, gpu: Gpu | None = None, deterministic: bool = False
) -> tuple[str, ...]:
    """The engine listens on `port`; `env` is the root of SGLang's Python environment."""
    # -P: the directory it is started in may hold packages that bear the names of SGLang's own imports.
    flags = _place(card, port, device) | card.flags_on(device, gpu) | determinism(device, wanted=deterministic)
    return (str(env.absolute() / "bin" / "python"), "-P", "-m", "sglang.launch_server", *_arguments(flags))


def variables(card: Card, device: Device) -> dict[str, str | None]:
    """What the engine's environment needs; None takes a variable away."""
    wanted: dict[str, str | None] = {
        "PYTHONDONTWRITEBYTECODE": None,  # starting is importing: 16 s with compiled files, 26 s without
        "PYTHONPATH": None,  # this process's packages are not SGLang's
        "PYTHONWARNINGS": "ignore",  # SGLang's own, forty lines a start
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",  # else each /health takes a second and a token
        # Else one answer whose grammar lets nothing through is NaN to all it is sampled with, and the scheduler ends of it.
        "SGLANG_SANITIZE_NAN_LOGITS": "1",
    }
    if card.weights == PACKAGED:
        wanted["HF_HUB_OFFLINE"] = "1"
    if device == "cpu":
        wanted["OMP_NUM_THREADS"] = "1"  # with one thread a core, contended cores stall it for seconds
    return wanted


async def is_ready(url: str) -> bool:
    """Whether the engine at `url` takes requests; a joined one that has no `/ready` is asked for its models.

    A refused connection and a time-out count as no.
    """
    root = url.rstrip("/").removesuffix("/v1")
    async with aiohttp.ClientSession(timeout=_PROBE) as http:
        status = await _status(http, f"{root}/ready")
        if status == _NOT_FOUND:
            status = await _status(http, f"{root}/v1/models")
    return status == _OK


async def _status(http: aiohttp.ClientSession, url: str) -> int | None:
    try:
        async with http.get(url) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _place(card: Card, port: int, device: Device) -> Flags:
    flags: Flags = {
        "model-path": model_path(card),
        "served-model-name": card.id,
        "context-length": card.context_tokens,
        "device": device,
        "host": _HOST,
        "port": port,
    }
    if template := chat_template(card):
        flags["chat-template"] = str(template)
    return flags if card.weights == PACKAGED else flags | {"revision": card.revision}


def _arguments(flags: Flags) -> Iterator[str]:
    for name, value in flags.items():
        if value is False:
            continue
        yield f"--{name}"
        if value is not True:
            yield str(value)
