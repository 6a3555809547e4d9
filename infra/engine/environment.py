"""Where does SGLang live on a machine without a GPU, and how does it get there?

In a virtual environment of its own, since its pins are its own: the released packages, PyTorch's CPU build and a small plug-in
of ours (`cpu/plugin`), by `uv` from `cpu/requirements.lock`.  It is built aside and put in place whole, so a directory that
exists is complete; a stamp tells which recipe made it.  Refuses to touch an environment that somebody else made: such a one
(on a GPU machine, say) is used as it is.
"""

import fcntl
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from models.cards.card import Device
from models.errors import TramError, Unavailable

_RECIPE = 1  # raised when the steps below come to leave something else behind
_TORCH = "2.13.0"
_STAMP = "tramontane.stamp"
_CPU = Path(str(files("infra.engine") / "cpu"))
_GLIBC = (2, 34)  # what SGLang's wheel was built against
_PYTHONS = ((3, 11), (3, 13))
_STEP_S = 1800.0  # the largest step fetches 200 MB
_CHECK_S = 300.0
_TOLD_LINES = 12

_ELSEWHERE = "Point TRAM_ENGINE_URL at a server that is already running, or use a machine with an NVIDIA GPU."
# Importing all that an engine imports leaves it compiled: the first start is then as quick as the others.
_CHECK = """
import torch
assert torch.version.cuda is None and not torch.cuda.is_available(), f"torch {torch.__version__} is not a CPU build"
import sglang.launch_server, sglang.srt.entrypoints.http_server, sglang.srt.managers.scheduler
from sglang.srt.models.registry import import_model_classes
assert import_model_classes("sglang.srt.models")["MistralForCausalLM"]
"""

Report = Callable[[str], None]


def problem(env: Path, device: Device = "cpu") -> str | None:
    """One sentence on why no engine can be started from `env` on `device`; None if one can."""
    ours = (env / _STAMP).is_file()
    if not ours and _has_sglang(env):
        return None
    if device == "cuda":
        return f"{env} does not hold SGLang for a GPU: install it there, or set TRAM_ENGINE_ENV to where it is."
    if reason := _unsuitable():
        return reason
    if not ours:
        return f"SGLang is not installed in {env}."
    if (env / _STAMP).read_text(encoding="utf-8") != _stamp() or not (env / "bin" / "python").exists():
        return f"{env} was made for another release of Tramontane or of Python."
    return None


def build(env: Path, report: Report) -> None:
    """Makes `env` usable for a CPU engine; at once if it is.  About 2 GB on disk.  Raises `Unavailable` with what to do."""
    with _alone(env, report):
        if problem(env) is None:
            return
        if reason := _unsuitable():
            raise Unavailable(reason)
        if env.exists() and not (env / _STAMP).is_file():
            raise Unavailable(
                f"{env} exists, and it was not made by tram: remove it, or set TRAM_ENGINE_ENV to another place."
            )
        part = env.with_name(env.name + ".part")
        _remove(part)
        try:
            _fill(part, _uv(env), report)
            (part / _STAMP).write_text(_stamp(), encoding="utf-8")
            _remove(env)
            part.rename(env)
        finally:
            _remove(part)
    report(f"SGLang is ready in {env}")


def _fill(part: Path, uv: list[str], report: Report) -> None:
    python = str(part / "bin" / "python")
    install = [*uv, "pip", "install", "--no-deps", "--python", python]
    report("creating an environment for SGLang")
    _run([*uv, "venv", "--relocatable", "--python", os.path.realpath(sys.executable), str(part)])
    report("installing SGLang and what it needs (270 MB to fetch)")
    _run([*install, "--require-hashes", "-r", str(_CPU / "requirements.lock")])
    _run([*install, str(_CPU / "plugin")])
    report("installing PyTorch for the CPU (190 MB to fetch)")
    _install_torch(install, part / "wheels")
    report("checking that it works")
    _run([python, "-P", "-c", _CHECK], limit_s=_CHECK_S)


def _install_torch(install: list[str], folder: Path) -> None:
    """From where pip is told to look, else from PyTorch's own index, to which uv knows the way."""
    pip = [os.path.realpath(sys.executable), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    try:
        _run([*pip, "--dest", str(folder), f"torch=={_TORCH}+cpu"])
    except Unavailable as pips:
        try:
            _run([*install, "--torch-backend", "cpu", f"torch=={_TORCH}"])
        except Unavailable as uvs:
            raise Unavailable(_no_torch(pips.message, uvs.message)) from uvs
    else:
        _run([*install, *(str(wheel) for wheel in folder.iterdir())])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_torch(pips: str, uvs: str) -> str:
    return (
        f"could not get a CPU build of torch {_TORCH}: neither where pip is configured to look\n{pips}\n"
        f"nor from PyTorch's index\n{uvs}\n"
        f"Let this machine reach PyTorch's index, or put the wheel of torch {_TORCH}+cpu where pip finds it (PIP_FIND_LINKS). "
        + _ELSEWHERE
    )


def _run(command: list[str], *, limit_s: float = _STEP_S) -> None:
    """One step; `Unavailable` tells its last words."""
    try:
        done = subprocess.run(
            command,
            check=False,
            env=_variables(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{_name(command)} did not end within {limit_s:.0f} s") from error
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TOLD_LINES:])
        raise Unavailable(f"{_name(command)} failed:\n{words}")


def _name(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *(word for word in command[1:4] if not word.startswith(("/", "-", "\n")))])


def _variables() -> dict[str, str]:
    """What a step sees: the machine's certificates instead of uv's own, and a Python that leaves compiled files behind."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}}
    return kept | {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}


def _uv(env: Path) -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    if (beside := env.absolute().parent / ".tools" / "bin" / "uv").is_file():
        return [str(beside)]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise Unavailable("installing SGLang needs uv, which is not on PATH: pip install uv")


@contextmanager
def _alone(env: Path, report: Report) -> Iterator[None]:
    """One build at a time; whoever comes second finds it done.  The kernel drops the lock of a builder that dies."""
    env.parent.mkdir(parents=True, exist_ok=True)
    with env.with_name(env.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that is installing SGLang")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _unsuitable() -> str | None:
    """Why SGLang's wheels do not run here at all, and what is left to do."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        return f"SGLang for the CPU needs Linux on x86-64; this is {system} on {machine}. {_ELSEWHERE}"
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < _GLIBC:
        return f"SGLang for the CPU needs glibc 2.34 or newer; this is {library or 'another library'} {version}. {_ELSEWHERE}"
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return f"SGLang for the CPU needs Python 3.11 to 3.13; this is {platform.python_version()}. {_ELSEWHERE}"
    return None


def _has_sglang(env: Path) -> bool:
    return any(env.glob("lib/python3.*/site-packages/sglang/launch_server.py"))


def _stamp() -> str:
    """Names what a build would leave behind: recipe, Python, PyTorch, pins and plug-in."""
    parts = [_CPU / "requirements.lock", *sorted((_CPU / "plugin").rglob("*.py")), _CPU / "plugin" / "pyproject.toml"]
    digest = sha256(f"{_RECIPE} {sys.version_info[:2]} {_TORCH}".encode())
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """`python -m infra.engine.environment [DIRECTORY]`; left out, beside the environment that this runs in."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        build(Path(sys.argv[1] if sys.argv[1:] else f"{sys.prefix}-engine"), console.print)
    except TramError as error:
        console.print(error.message, markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
