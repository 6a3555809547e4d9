"""What is there to compare with the code?  The compose file as Compose reads it, and the images as lists of steps."""

import json
import re
import shlex
import subprocess
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml

from api.cli import app
from infra.redis_server import find_server

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"
IMAGES = tuple(sorted(path.name for path in DEPLOY.glob("*.Dockerfile")))
WITHIN_S = 20.0

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Step:
    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The exec form's, or the shell's."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def all(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]

    def last(self, word: str) -> Step:
        return self.all(word)[-1]

    @property
    def variables(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for step in self.all("ENV") for pair in step.words)

    @property
    def health_program(self) -> list[str]:
        return json.loads(self.last("HEALTHCHECK").rest.partition(" CMD ")[2])

    def health_option_s(self, name: str) -> float:
        return float(re.search(rf"--{name}=(\d+)s", self.last("HEALTHCHECK").rest)[1])


def stages_of(name: str) -> list[Stage]:
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(base, alias))
        else:
            stages[-1].steps.append(Step(word, rest.strip()))
    return stages


def final_stage(name: str) -> Stage:
    return stages_of(name)[-1]


def external_bases(name: str) -> list[str]:
    stages = stages_of(name)
    return [stage.base for stage in stages if stage.base not in {each.name for each in stages}]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def example() -> dict[str, str]:
    """`.env.example` as Compose reads it."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose_text() -> str:
    return "\n".join(line.partition(" #")[0] for line in (ROOT / "docker-compose.yml").read_text().splitlines())


def variables_of(text: str) -> dict[str, str]:
    """Each variable that is asked for, and what Compose does when it is empty: `-` a default, `?` refuse."""
    return {name: way for name, way, _ in _VARIABLE.findall(text)}


def defaults_of(text: str) -> dict[str, str]:
    return {name: rest for name, way, rest in _VARIABLE.findall(text) if way == "-"}


class Missing(Exception):
    """What Compose says before it starts nothing."""


def filled(value: Any, given: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, given) for each in value]
    return _VARIABLE.sub(lambda found: _value(found, given), value) if isinstance(value, str) else value


def _value(found: re.Match[str], given: dict[str, str]) -> str:
    name, way, rest = found.groups()
    if way == "?" and not given.get(name):
        raise Missing(f"{name} {rest}")
    return given.get(name) or (rest if way == "-" else "")


def compose(**given: str) -> dict[str, Any]:
    """With the example's values and those `given`, and a word for each secret that the example leaves empty."""
    secrets = {name: f"secret-{name.lower()}" for name, way in variables_of(compose_text()).items() if way == "?"}
    known = {name: value or secrets.get(name, "") for name, value in example().items()}
    return filled(raw_compose(), known | given)


def raw_compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our images."""
    return {name: service for name, service in services().items() if "build" in service}


def image_of(service: dict[str, Any]) -> Stage:
    return final_stage(Path(service["build"]["dockerfile"]).name)


@cache
def subcommands() -> set[tuple[str, ...]]:
    """`tram`'s, groups with their members."""
    root = typer.main.get_command(app)
    found = set()
    for name, command in root.commands.items():
        members = getattr(command, "commands", None)
        found |= {(name, member) for member in members} if members else {(name,)}
    return found


@contextmanager
def running_redis(argv, folder):
    """`argv` as it stands, but on a socket and in a folder of its own; yields the socket once it answers."""
    socket = folder / "redis.sock"
    place = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    with subprocess.Popen([find_server(), *argv[1:], *place], stdout=subprocess.PIPE, text=True) as server:
        assert any("Ready to accept" in line for line in iter(server.stdout.readline, ""))
        try:
            yield socket
        finally:
            server.terminate()
            server.communicate(timeout=WITHIN_S)
