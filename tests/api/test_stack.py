"""Do our processes start from a directory whose owner has packages of the same names?"""

import os
import subprocess
from pathlib import Path

import pytest

from api import stack
from infra.settings import Settings
from models.cards.card import catalogue

SETTINGS = Settings(_env_file=None, concurrency=1)
COMMANDS = {
    "api": stack.api_command(SETTINGS),
    "worker": stack.worker_command(SETTINGS, catalogue()["tram-demo"], joined=False),
    "upkeep": stack.upkeep_command(),
}
WITHIN_S = 60.0


@pytest.mark.parametrize("name", COMMANDS)
def test_what_lies_where_a_process_is_started_is_not_taken_for_its_own(tmp_path: Path, name: str):
    """Each comes as far as its settings, which are wrong."""
    for package in ("api", "infra", "models", "workers"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('a stranger')")
    done = subprocess.run(
        COMMANDS[name],
        cwd=tmp_path,
        env=os.environ | {"TRAM_PORT": "no number"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "a stranger" not in told
    assert "validation error for Settings" in told
