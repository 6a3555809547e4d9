"""Do the examples that people paste work?  Every `sh` and `python` block of a page, run in order in one shell, as a reader would.

A block followed by a `text` block must print that; `…` stands for anything, lines too.  `console` blocks are not run: they
start or stop a Tramontane, and the tests have one.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.ports import free_port
from tests.flow.stack import Stack

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WITHIN_S = 60.0
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = "--- what the next example says"


@dataclass(frozen=True)
class Example:
    language: str
    text: str
    prints: str

    def command(self, here: dict[str, str]) -> str:
        """`here`: what is written, and what stands in its place in this test."""
        text = self.text
        for written, meant in here.items():
            text = text.replace(written, meant)
        return text if self.language == "sh" else f"{shlex.quote(sys.executable)} - <<'END'\n{text}END"


def examples_of(page: Path) -> list[Example]:
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    following = [*blocks[1:], ("", "")]
    return [
        Example(language, text, after if kind == "text" else "…")
        for (language, text), (kind, after) in zip(blocks, following, strict=True)
        if language in {"sh", "python"}
    ]


def script_of(examples: list[Example], url: str, key: str) -> str:
    port = free_port("127.0.0.1")
    here = {
        "http://127.0.0.1:8700": url,
        "sk-tram-...": key,
        ".venv/bin": shlex.quote(str(BIN)),
        "127.0.0.1:9000": f"127.0.0.1:{port}",
        "receiver.py 9000": f"receiver.py {port}",
    }
    begin = f"export URL={url} KEY={key} AUTH='Authorization: Bearer {key}' no_proxy=127.0.0.1"
    begin += f" OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key}"
    return "\n".join([begin, *(f"echo '{MARK}'\n{example.command(here)}\necho" for example in examples)])


QUIET = ": still here\n\n"
"""What keeps a silent line alive: on a machine with much to do it may come anywhere."""


def matches(prints: str, printed: str) -> bool:
    """Dots at the end of a line may stand for the line's end too: the service's JSON has none."""
    pattern = ".*".join(re.escape(part) for part in re.split("…\n?", prints.strip()))
    text = printed.replace("\r\n", "\n").replace(QUIET, "")
    return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


@pytest.mark.engine
@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/api.md", "docs/conversations.md", "docs/batches.md", "docs/replay.md", "docs/evals.md"],
)
def test_the_examples_of_a_page_print_what_it_says(page: str, stack: Stack) -> None:
    examples = examples_of(ROOT / page)
    assert len(examples) >= 3
    key = stack.command("keys", "create", "--account", page)  # nothing is cached for it or in its lists
    done = subprocess.run(
        ("bash", "-e", "-c", script_of(examples, stack.url, key)),
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split(MARK)[1:]
    for example, words in zip(examples, printed, strict=True):
        assert matches(example.prints, words), f"{example.text}\nprinted\n{words}\n{done.stderr}"


@pytest.mark.parametrize(
    ("prints", "printed", "expected"),
    [
        ("a\nb", "a\nb\n", True),
        ("a…z", "a\nb\nz", True),
        ("a…", "b", False),
        ("a.c", "abc", False),
        ("…\nc", "a\nb\nc", True),
        ("a\nb", ": still here\n\na\nb", True),
    ],
)
def test_dots_stand_for_anything(prints: str, printed: str, *, expected: bool) -> None:
    assert matches(prints, printed) is expected
