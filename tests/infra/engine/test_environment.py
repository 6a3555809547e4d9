"""Is SGLang's environment made once, whole, and only where it can run?  With a stand-in for uv that notes what it is told."""

import importlib.util
import os
import platform
import re
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from infra.engine import environment
from infra.engine.environment import build, problem
from models.errors import Unavailable

CPU = Path(environment.__file__).parent / "cpu"
UV = """#!/bin/sh
PATH=/usr/bin:/bin
echo "$@" >> "{notes}"
case "$*" in *{fails}*) echo "it broke" >&2; exit 1;; esac
if [ "$1" = venv ]; then
    for part; do :; done
    mkdir -p "$part/bin" && printf '#!/bin/sh\\n[ -z "$PYTHONDONTWRITEBYTECODE" ]\\n' > "$part/bin/python"
    chmod +x "$part/bin/python"
fi
"""


@pytest.fixture
def uv(tmp_path, monkeypatch):
    """A uv that makes an empty environment and does as if it installed; pip finds a torch in a folder."""
    tools, wheels = tmp_path / "tools", tmp_path / "wheels"
    tools.mkdir()
    wheels.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    put_torch(wheels)
    return StandIn(tools / "uv", tmp_path / "notes", wheels)


def put_torch(folder):
    with zipfile.ZipFile(folder / "torch-2.13.0+cpu-py3-none-any.whl", "w") as wheel:
        about = "torch-2.13.0+cpu.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


class StandIn:
    def __init__(self, path, notes, wheels):
        self.path, self.notes, self.wheels = path, notes, wheels
        self.fail_at("nothing-at-all")

    def fail_at(self, word):
        self.path.write_text(UV.format(notes=self.notes, fails=word))
        self.path.chmod(0o755)

    @property
    def told(self):
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def env(tmp_path):
    return tmp_path / "place" / ".venv-engine"


def leftovers(env):
    return {entry.name for entry in env.parent.iterdir()} - {env.name, f"{env.name}.lock"}


def test_nothing_there_is_a_problem(env):
    assert problem(env) == f"SGLang is not installed in {env}."


def test_a_build_is_whole_and_made_once(env, uv):
    said = []
    build(env, said.append)
    assert problem(env) is None
    assert said[-1] == f"SGLang is ready in {env}"
    venv, pins, plugin, torch = uv.told
    assert venv.startswith("venv --relocatable --python ")
    assert pins.endswith(f"--require-hashes -r {CPU / 'requirements.lock'}")
    assert plugin.endswith(str(CPU / "plugin"))
    assert torch.endswith("/torch-2.13.0+cpu-py3-none-any.whl")
    assert all("--no-deps" in line for line in uv.told[1:])
    assert leftovers(env) == set()
    build(env, said.append)
    assert len(uv.told) == 4


def test_another_release_builds_anew(env, uv, monkeypatch):
    build(env, print)
    monkeypatch.setattr(environment, "_RECIPE", environment._RECIPE + 1)
    assert "another release" in problem(env)
    (env / "old").touch()
    build(env, print)
    assert problem(env) is None
    assert not (env / "old").exists()


def test_an_environment_without_its_python_is_a_problem(env, uv):
    build(env, print)
    (env / "bin" / "python").unlink()
    assert problem(env) is not None


@pytest.mark.parametrize("step", ["venv", "requirements.lock", "plugin", ".whl"])
def test_a_step_that_fails_leaves_nothing_and_tells(env, uv, step):
    uv.fail_at(step)
    with pytest.raises(Unavailable, match="it broke"):
        build(env, print)
    assert not env.exists()
    assert leftovers(env) == set()
    uv.fail_at("nothing-at-all")
    build(env, print)
    assert problem(env) is None


def test_a_build_that_was_cut_off_is_begun_again(env, uv):
    (env.with_name(f"{env.name}.part") / "bin").mkdir(parents=True)
    assert problem(env) is not None
    build(env, print)
    assert problem(env) is None
    assert leftovers(env) == set()


def test_without_pips_torch_uv_is_sent_to_pytorchs_index(env, uv):
    for wheel in uv.wheels.iterdir():
        wheel.unlink()
    build(env, print)
    assert uv.told[-1].endswith("--torch-backend cpu torch==2.13.0")


def test_no_torch_anywhere_says_what_to_do(env, uv):
    for wheel in uv.wheels.iterdir():
        wheel.unlink()
    uv.fail_at("--torch-backend")
    with pytest.raises(Unavailable) as caught:
        build(env, print)
    for word in (
        "could not get a CPU build of torch 2.13.0",
        "No matching distribution",
        "it broke",
        "PIP_FIND_LINKS",
        "TRAM_ENGINE_URL",
    ):
        assert word in caught.value.message


def test_two_builds_at_once_are_one(env, uv):
    failures = []

    def one():
        try:
            build(env, lambda _: None)
        except Unavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(uv.told) == 4
    assert problem(env) is None


def test_an_environment_of_somebody_else_is_used_as_it_is(env, uv):
    package = env / "lib" / "python3.11" / "site-packages" / "sglang"
    package.mkdir(parents=True)
    (package / "launch_server.py").touch()
    assert problem(env) is None
    assert problem(env, "cuda") is None
    build(env, print)
    assert uv.told == []


def test_a_directory_of_somebody_else_is_left_alone(env, uv):
    env.mkdir(parents=True)
    (env / "thesis.tex").touch()
    with pytest.raises(Unavailable, match="was not made by tram"):
        build(env, print)
    assert (env / "thesis.tex").exists()


def test_what_was_built_for_the_cpu_is_not_for_a_gpu(env, uv):
    build(env, print)
    assert "for a GPU" in problem(env, "cuda")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("system", "Darwin", "Linux on x86-64; this is Darwin"),
        ("machine", "aarch64", "this is Linux on aarch64"),
        ("libc_ver", ("glibc", "2.31"), "glibc 2.34 or newer; this is glibc 2.31"),
        ("libc_ver", ("", ""), "this is another library"),
    ],
)
def test_an_unsuitable_machine_hears_why_and_what_else(env, uv, monkeypatch, name, value, words):
    monkeypatch.setattr(platform, name, lambda: value)
    assert words in problem(env)
    with pytest.raises(Unavailable, match="TRAM_ENGINE_URL"):
        build(env, print)
    assert uv.told == []


def test_without_uv_it_says_how_to_get_it(env, uv, monkeypatch):
    uv.path.unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match="pip install uv"):
        build(env, print)


def test_uv_beside_the_environment_is_found(env, uv, monkeypatch):
    beside = env.parent / ".tools" / "bin"
    beside.mkdir(parents=True)
    uv.path.rename(beside / "uv")
    build(env, print)
    assert problem(env) is None


def test_the_command_line_builds_and_tells(env, uv, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["environment", str(env)])
    assert environment.main() == 0
    assert "SGLang is ready" in capsys.readouterr().out
    monkeypatch.setattr(environment, "_RECIPE", environment._RECIPE + 1)
    uv.fail_at("venv")
    assert environment.main() == 1
    assert "it broke" in capsys.readouterr().out


def test_every_pin_is_hashed_and_none_names_an_address():
    wanted = re.findall(r"^([\w.-]+==\S+)", (CPU / "requirements.in").read_text(), re.MULTILINE)
    lock = (CPU / "requirements.lock").read_text()
    hashed = re.findall(r"^([\w.-]+==\S+) \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert {pin.lower().replace("_", "-") for pin in wanted} == {pin.lower().replace("_", "-") for pin in hashed}
    assert len(wanted) > 80
    assert "://" not in lock
