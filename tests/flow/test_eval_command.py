"""`tram eval run` from outside: does it report, tell a CI what came out, and join what was interrupted?"""

import json
import signal
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.flow.engine import mortal
from tests.flow.stack import Stack
from tests.flow.stack import tram as program

WITHIN_S = 110
EXAMPLES = Path(__file__).parents[2] / "examples" / "evals"
RIGHT = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.wanted }}",
}
ROWS = [
    {"ask": f"!tokens={count}", "wanted": "token 1 token 2", "size": "odd" if count % 2 else "even"}
    for count in (1, 2, 3, 2)
]


def suite(folder: Path, rows: list[dict[str, str]] = ROWS, **changes: object) -> str:
    body = {
        "name": f"counting {uuid4().hex}",
        "dataset": {"items": rows},
        "prompt": "{{ item.ask }}",
        "variants": [
            {"name": "whole", "model": "tiny"},
            {"name": "cut", "model": "tiny", "parameters": {"max_tokens": 2}},
        ],
        "graders": [RIGHT],
        "slices": ["item.size"],
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(body | changes), encoding="utf-8")
    return str(path)


def run(stack: Stack, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = (program(), "eval", *words)
    return subprocess.run(
        command, env=stack._environment, cwd=folder, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def test_a_suite_is_asked_graded_and_reported(tram: Stack, tmp_path: Path):
    done = run(tram, tmp_path, "run", suite(tmp_path), "--out", "out")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [each["scores"]["right"]["mean"] for each in told["runs"]] == [0.5, 0.75]
    assert told["comparisons"][0]["difference"] == 0.25
    assert {row["value"] for row in told["slices"]} == {"odd", "even"}
    assert told["items"][2]["answers"][1]["output"] == "token 1 token 2"
    assert "<title>counting" in (tmp_path / "out" / "report.html").read_text()
    assert "right: cut +0.250" in done.stdout
    again = run(tram, tmp_path, "run", "suite.yaml", "--out", "out")
    assert again.stdout.startswith("Began "), "what was reported is asked anew"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"thresholds": [{"grader": "right", "mean": 0.5}]}, 0),
        ({"thresholds": [{"grader": "right", "mean": 0.6}]}, 1),
        ({"rows": [*ROWS, {"ask": "!status=400", "wanted": "", "size": "odd"}]}, 2),
        ({"rows": [*ROWS, {"ask": "!status=400", "wanted": "", "size": "odd"}], "errors_most": 0.2}, 0),
        ({"variants": [{"name": "x", "model": "no such model"}]}, 2),
        ({"prompt": "{{item.nope}}"}, 2),
        ({"graders": [{"type": "python", "name": "p", "source": ""}]}, 2),
    ],
)
def test_the_exit_status_tells(tram: Stack, tmp_path: Path, changes: dict, status: int):
    done = run(tram, tmp_path, "run", suite(tmp_path, **changes))
    assert done.returncode == status, done.stdout + done.stderr


def test_many_rows_go_up_as_a_file(tram: Stack, tmp_path: Path):
    long = [row | {"note": "x" * 300_000} for row in ROWS]
    done = run(tram, tmp_path, "run", suite(tmp_path, long, variants=[{"name": "whole", "model": "tiny"}]))
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["runs"][0]["scores"]["right"]["mean"] == 0.5
    assert told["items"][0]["item"]["note"] == "x" * 300_000


def test_a_crash_is_no_missed_threshold(embedded: Stack, tmp_path: Path):
    done = run(embedded, tmp_path, "run", suite(tmp_path), "--out", "suite.yaml")
    assert (done.returncode, "FileExistsError" in done.stderr) == (2, True)


def test_a_service_that_is_not_there(tram: Stack, tmp_path: Path):
    done = run(tram, tmp_path, "run", suite(tmp_path), "--url", "http://127.0.0.1:1")
    assert (done.returncode, "nothing answers" in done.stderr) == (2, True)


def test_what_was_interrupted_is_joined(tram: Stack, tmp_path: Path):
    mark = uuid4().hex
    rows = [{"ask": f"!tokens=20 rate=10 name={mark}{number}", "wanted": "", "size": "odd"} for number in range(4)]
    path = suite(tmp_path, rows)
    # Whoever runs the tests may have had SIGINT ignored, and children inherit that.
    heeding = ("env", "--default-signal=INT", program(), "eval", "run", path)
    with subprocess.Popen(mortal(*heeding), env=tram._environment, cwd=tmp_path, stdout=subprocess.PIPE) as first:
        tram.engine.wait(min_running=1)
        first.send_signal(signal.SIGINT)
        assert first.wait(WITHIN_S) == 130
    done = run(tram, tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Joining ")
    asked = [each for each in tram.engine.requests() if mark in json.dumps(each)]
    assert len(asked) == 8, "each question once a variant"


def test_runs_are_compared_wherever_they_are(tram: Stack, tmp_path: Path):
    done = run(tram, tmp_path, "run", suite(tmp_path), "--out", "out")
    assert done.returncode == 0, done.stderr
    [whole, cut] = [each["id"] for each in json.loads((tmp_path / "out" / "report.json").read_text())["runs"]]
    here = run(tram, tmp_path, "compare", whole, cut, "--slice", "item.size", "--out", "two")
    assert "right: cut +0.250" in here.stdout
    assert (tmp_path / "two" / "report.html").exists()
    files = run(tram, tmp_path, "compare", "out/report.json#whole", "two/report.json#cut")
    assert files.stdout == here.stdout.rpartition("two/report.html")[0]
    wrong = run(tram, tmp_path, "compare", "out/report.json", "suite.yaml")
    assert (wrong.returncode, "name one of its runs behind a #: whole, cut" in wrong.stderr) == (2, True)


@pytest.mark.engine
def test_a_public_set_of_two_hundred_questions(stack: Stack, tmp_path: Path):
    """On the toy model, whose answers are no sums: the machinery is what is shown."""
    done = run(stack, tmp_path, "run", str(EXAMPLES / "gsm8k.yaml"), "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [each["counts"]["total"] for each in told["runs"]] == [200, 200]
    assert all(each["n"] == 200 for each in told["comparisons"])
    [ending] = [each for each in told["comparisons"] if each["grader"] == "ends by itself"]
    assert ending["high"] < 0, "hot answers ramble"
    assert ending["p_value"] < 0.01
