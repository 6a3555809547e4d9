"""Do other people's eval harnesses run against the service as its clients?  Inspect AI, lm-eval and promptfoo, as docs/evals.md shows.

Each asks the same four capitals, of which the demo model knows three: a harness that counts something else has not understood the answers.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flow.borrowed import node_packages, python_with
from tests.flow.stack import Stack

EXAMPLES = Path(__file__).parents[2] / "examples" / "harnesses"
ENVIRONMENTS = Path(__file__).parent / "environments"
WITHIN_S = 180
KNOWN = 0.75

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A copy of the examples, since harnesses write beside them."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "harnesses"))


def run(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    own = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | {"HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=own | settings, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def test_inspect_ai(stack: Stack, here: Path):
    program = python_with(ENVIRONMENTS / "inspect.txt").with_name("inspect")
    told = {"LOCAL_BASE_URL": f"{stack.url}/v1", "LOCAL_API_KEY": stack.key, "NO_COLOR": "1"}
    asked = ("inspect_capitals.py", "--model", "openai-api/local/tram-demo", "--temperature", "0")
    done = run(here, str(program), "eval", *asked, "--log-format", "json", "--log-dir", "logs", **told)
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = (here / "logs").glob("*.json")
    result = json.loads(log.read_text())
    assert result["status"] == "success"
    assert result["results"]["scores"][0]["metrics"]["accuracy"]["value"] == KNOWN


def test_lm_eval(stack: Stack, here: Path):
    program = python_with(ENVIRONMENTS / "lm-eval.txt").with_name("lm_eval")
    told = {"OPENAI_API_KEY": stack.key, "HF_HOME": str(here / "hf"), "HF_HUB_OFFLINE": "1"}
    model = f"model=tram-demo,base_url={stack.url}/v1/chat/completions,num_concurrent=4,tokenized_requests=False"
    asked = ("--model", "local-chat-completions", "--model_args", model, "--tasks", "capitals")
    place = ("--include_path", ".", "--apply_chat_template", "--output_path", "out")
    done = run(here, str(program), "run", *asked, *place, **told)
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = (here / "out").rglob("results_*.json")
    assert json.loads(log.read_text())["results"]["capitals"]["found,none"] == KNOWN


def test_promptfoo(stack: Stack, here: Path):
    program = node_packages(ENVIRONMENTS / "promptfoo") / "node_modules" / ".bin" / "promptfoo"
    told = {"OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.key, "PROMPTFOO_DISABLE_TELEMETRY": "1"}
    told |= {"PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_CONFIG_DIR": str(here / "config")}
    asked = ("-c", "promptfooconfig.yaml", "--no-cache", "-o", "out.json")
    done = run(here, str(program), "eval", *asked, **told)
    assert done.returncode == 100, done.stdout + done.stderr  # promptfoo's way to say that an assertion failed
    stats = json.loads((here / "out.json").read_text())["results"]["stats"]
    assert (stats["successes"], stats["failures"], stats["errors"]) == (3, 1, 0)
