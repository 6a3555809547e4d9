"""Environments that clients of other people's making run in, made when a test asks: they are not ours to pin for everybody.

Kept in `.tools` by what they hold, so the second run finds them.  Whoever has no Node, no uv or no registry skips those tests, and is
told why.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".tools" / "borrowed"
INSTALL_S = 240
NODE_LEAST = 20


def python_with(requirements: Path) -> Path:
    """The Python of an environment that holds these; skips the test where it cannot be made."""
    uv = shutil.which("uv", path=os.pathsep.join((str(ROOT / ".tools" / "bin"), os.environ.get("PATH", ""))))
    if uv is None:
        pytest.skip("uv is not here; `make setup` fetches it")
    folder = _kept(requirements.stem, requirements.read_bytes() + sys.version.encode())
    python = folder / "bin" / "python"
    if not _done(folder).exists():
        _install(ROOT, uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _install(ROOT, uv, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(requirements))
        _done(folder).touch()
    return python


def node_with(examples: Path) -> Path:
    """A copy of the folder, with its packages; skips the test where they cannot be had."""
    _need_node()
    folder = _kept("node", (examples / "package-lock.json").read_bytes())
    shutil.copytree(examples, folder, dirs_exist_ok=True)
    if not _done(folder).exists():
        _install(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        _done(folder).touch()
    return folder


def node_packages(wanted: Path) -> Path:
    """A folder with the packages that `wanted/package.json` names, and none of those they may do without: some have hundreds."""
    _need_node()
    folder = _kept(wanted.name, (wanted / "package.json").read_bytes())
    shutil.copytree(wanted, folder, dirs_exist_ok=True)
    if not _done(folder).exists():
        plain = ("--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--no-package-lock")
        _install(folder, "npm", "install", *plain)
        _done(folder).touch()
    return folder


def _need_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not here")
    version = subprocess.run(("node", "--version"), capture_output=True, text=True, check=True, timeout=20).stdout
    if int(version[1:].partition(".")[0]) < NODE_LEAST:
        pytest.skip(f"Node {version.strip()} is too old; {NODE_LEAST} is wanted")


def _kept(name: str, holds: bytes) -> Path:
    folder = KEPT / f"{name}-{hashlib.blake2s(holds, digest_size=6).hexdigest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _done(folder: Path) -> Path:
    return folder / "installed"


def _install(folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} was not done within {INSTALL_S} s")
    if done.returncode != 0:
        pytest.skip(f"{command[0]} could not install: {done.stderr.strip()[-500:]}")
