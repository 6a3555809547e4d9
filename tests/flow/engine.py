"""The scriptable engine (tests/fakes/engine.py) as a process, which can be killed and come back on its port."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx2

PROGRAM = Path(__file__).parents[1] / "fakes" / "engine.py"
WAIT_S = 30


class Engine:
    def __enter__(self) -> Self:
        self._start(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def kill(self) -> None:
        self._process.kill()
        self._gone()

    def died(self) -> None:
        """Returns when it has ended by itself."""
        self._gone()

    def start(self) -> None:
        """On the port it had."""
        self._start(self._port)

    def state(self) -> dict[str, Any]:
        return httpx2.get(f"{self.url}/_state", trust_env=False).raise_for_status().json()

    def requests(self) -> list[dict[str, Any]]:
        """The bodies it was sent, oldest first."""
        return httpx2.get(f"{self.url}/_requests", trust_env=False).raise_for_status().json()

    def wait(self, **wanted: int) -> dict[str, Any]:
        """Its state once it is as wanted, such as `running=0`, `min_finished=5`."""
        query = {"timeout_s": WAIT_S} | wanted
        answer = httpx2.get(f"{self.url}/_wait", params=query, timeout=2 * WAIT_S, trust_env=False)
        assert answer.is_success, f"wanted {wanted}, stands at {answer.text[:300]}"
        return answer.json()

    def abort_all(self) -> None:
        """As somebody else's `/abort_request` would."""
        httpx2.post(f"{self.url}/abort_request", json={"abort_all": True}, trust_env=False).raise_for_status()

    def aborted(self, job_id: str) -> dict[str, Any]:
        """How its request for this job was aborted, once it was."""
        for count in range(1, 1000):
            found = [one for one in self.wait(min_aborted=count)["aborts"] if one["rid"].startswith(job_id)]
            if found:
                return found[0]
        raise AssertionError(f"{job_id} was not aborted")

    def _start(self, port: int) -> None:
        command = mortal(sys.executable, str(PROGRAM), "--port", str(port))
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._port = json.loads(self._process.stdout.readline())["port"]

    def _gone(self) -> None:
        self._process.wait(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def mortal(*command: str) -> tuple[str, ...]:
    """The command, which ends with this process however that ends."""
    return ("setpriv", "--pdeathsig", "TERM", *command)


def tokens(count: int) -> str:
    """What it says when asked for so many."""
    return " ".join(f"token {number}" for number in range(1, count + 1))


def answers(jobs: list[dict[str, Any]]) -> Counter[tuple[str, int]]:
    """What they have said, and how many tokens they were charged for."""
    pairs = ((job["result"]["choices"][0]["message"]["content"], job["usage"]["completion_tokens"]) for job in jobs)
    return Counter(pairs)
