"""How does a script get a Tramontane of its own?  `tram up` in a child process, its words shown as progress, ended with the script.

Relies on the `tram` beside the Python that runs this.  Refuses to share: it empties the folder it is given, listens on a free port
and makes its own key, and what is set for another Tramontane stays out of it.
"""

import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from openai import OpenAI
from rich.console import Console

from infra.ports import free_port

START_S = 180  # 20 s on two idle cores, nearly all of it the engine's imports; beside other work a multiple
ANSWER_S = 30
STOP_S = 45
TRAM = Path(sys.executable).with_name("tram")


class NotStarted(Exception):
    """Its text is what `tram up` said."""


class Client:
    """What one needs to talk to a Tramontane: OpenAI's client for chats, plain HTTP for the rest."""

    def __init__(self, url: str, key: str) -> None:
        root, bearer = f"{url}/v1", {"Authorization": f"Bearer {key}"}
        self.openai = OpenAI(base_url=root, api_key=key, timeout=ANSWER_S, max_retries=0)
        self._http = httpx2.Client(base_url=root, headers=bearer, timeout=ANSWER_S)

    def close(self) -> None:
        self.openai.close()
        self._http.close()

    def get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def delete(self, path: str) -> None:
        self._http.delete(path).raise_for_status()

    def events(self, job: str) -> Iterator[str]:
        """The lines of a job's events, until it has ended."""
        with self._http.stream("GET", f"/jobs/{job}/events") as answer:
            yield from answer.raise_for_status().iter_lines()


class Service(Client):
    def __init__(self, folder: Path, model: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ["no_proxy"] = "127.0.0.1"  # both clients would go through a proxy that is set
        port, key = free_port("127.0.0.1"), "sk-demo-" + secrets.token_hex(16)
        super().__init__(f"http://127.0.0.1:{port}", key)
        others = {name: value for name, value in os.environ.items() if not name.startswith("TRAM_")}
        place = {"TRAM_DATA_DIR": str(folder), "TRAM_PORT": str(port)}
        variables = others | place | {"TRAM_API_KEY": key, "TRAM_MODEL": model}
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self._process = subprocess.Popen((TRAM, "up"), env=variables, **pipe)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line.strip())

    def wait_until_ready(self, console: Console) -> None:
        """Shows each of its processes as it gets ready.  Raises NotStarted."""
        said, awaited, began = [], [], time.monotonic()
        with console.status("") as spinner:
            while time.monotonic() < began + START_S and (line := self._next_line()) is not None:
                spinner.update(f"starting {', '.join(awaited) or 'tram'}: {time.monotonic() - began:.0f} s")
                said.append(line)
                name, _, news = line.partition("  ")
                if news == "starting":
                    awaited.append(name)
                elif news.startswith("ready"):
                    awaited.remove(name)
                    console.print(f"{name:>8}  {news}")
                elif line.startswith("Tramontane serves"):
                    return console.print(line)
        raise NotStarted("\n".join(filter(None, said)))

    def _next_line(self) -> str | None:
        """Empty after a moment of silence; None when the process has ended and all it said was read."""
        try:
            return self._lines.get(timeout=0.2)
        except queue.Empty:
            return None if self._process.poll() is not None else ""

    def stop(self) -> None:
        """In order; and if that takes too long, at once."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending already
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
