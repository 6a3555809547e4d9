"""How does a benchmark come by an engine of its own?  SGLang on a free port of the loopback address, as long as a block lasts.

Started as the service starts it (`infra.engine.server`), with flags of the benchmark's behind the card's, which win.  Below a keeper:
it ends with this process, however that ends.  Relies on an environment that holds SGLang (`make setup` makes the CPU's;
`TRAM_ENGINE_ENV` names another).
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra import keeper
from infra.engine import server
from infra.engine.environment import problem
from infra.ports import free_port
from infra.settings import Settings
from models.cards.card import Card, Device

_START_S = 600.0  # a first start on a GPU compiles kernels and captures graphs
_STOP_S = 20.0
_PAUSE_S = 0.2
_TOLD_CHARACTERS = 4000


@contextmanager
def running(card: Card, device: Device, *flags: str) -> Iterator[str]:
    """The root of an engine that takes requests.  Raises RuntimeError with the engine's last words."""
    env, port = Settings().engine_environment, free_port("127.0.0.1")
    if reason := problem(env, device):
        raise RuntimeError(reason)
    command = (*server.command(card, env=env, port=port, device=device, gpu=server.gpu_for(device)), *flags)
    changes = server.variables(card, device) | {"HF_HUB_OFFLINE": "1"}
    variables = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    kept_by = (sys.executable, "-I", "-S", keeper.__file__, str(_STOP_S), "")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            (*kept_by, *command), env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not asyncio.run(_becomes_ready(url, process)):
                raise RuntimeError(f"the engine did not start:\n{_last_words(log.fileno())}")
            yield url
        finally:
            process.communicate(timeout=2 * _STOP_S)  # closes the keeper's end of the rope


async def _becomes_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    give_up = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up:
        if await server.is_ready(url):
            return True
        await asyncio.sleep(_PAUSE_S)
    return False


def _last_words(log: int) -> str:
    size = os.fstat(log).st_size
    return os.pread(log, _TOLD_CHARACTERS, max(0, size - _TOLD_CHARACTERS)).decode(errors="replace")


def about(url: str) -> dict[str, Any]:
    """What the engine says of itself: `version`, `max_total_num_tokens` and the flags that it runs with."""
    with urllib.request.urlopen(f"{url}/server_info", timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told
