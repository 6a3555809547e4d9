"""`tram …` as a shell runs it, on a machine whose GPU is what a test says."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WITHIN_S = 60.0

Tram = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tram(tmp_path: Path) -> Tram:
    """Runs a command; `gpu` is what `nvidia-smi` answers, other names are settings."""

    def run(*words: str, gpu: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        if gpu:
            driver = tmp_path / "bin" / "nvidia-smi"
            driver.parent.mkdir(exist_ok=True)
            driver.write_text(f"#!{sys.executable} -I\nprint({gpu!r})\n", encoding="utf-8")
            driver.chmod(0o755)
        own = {name: value for name, value in os.environ.items() if not name.startswith("TRAM_")}
        own |= {"PATH": f"{tmp_path / 'bin'}", "COLUMNS": "200", "TRAM_DATA_DIR": str(tmp_path / "data"), **settings}
        command = (str(Path(sys.executable).with_name("tram")), *words)
        return subprocess.run(
            command, env=own, cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )

    return run
