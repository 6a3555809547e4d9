"""Do the pages say what is?  What the code can write is written by it; what names a thing of ours names one that exists.

The examples are run by `tests/flow/test_readme.py`; here they only have to be sound.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from api import cli
from infra.settings import Settings

ROOT = Path(__file__).parents[1]
GENERATOR = ROOT / "docs" / "generate.py"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
OPERATE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_decision = pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def said_as_code(page: Path) -> Iterator[str]:
    """Everything a reader would type: code in the text, and lines of shell blocks."""
    text = page.read_text(encoding="utf-8")
    yield from CODE.findall(FENCE.sub("", text))
    for block in blocks(page, "sh", "console"):
        yield from block.splitlines()


def test_tables_and_diagrams_are_what_the_code_says():
    done = subprocess.run(
        (sys.executable, GENERATOR, "--check"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    told = f"{done.stdout}{done.stderr}\nTo bring the pages up to date: .venv/bin/python docs/generate.py"
    assert done.returncode == 0, told


def test_every_part_that_can_be_generated_is_asked_for():
    made = re.search(r"^PARTS = .*?\(([a-z_, ]+)\)\}$", GENERATOR.read_text(encoding="utf-8"), re.MULTILINE)
    asked = {
        name for page in PAGES for name in re.findall(r"<!-- generated: (\w+) -->", page.read_text(encoding="utf-8"))
    }
    assert made
    assert asked == set(made[1].split(", "))


@each_page
def test_relative_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_examples_are_sound(page):
    for text in blocks(page, "python"):
        ast.parse(text)
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "sh"):
        done = subprocess.run(("bash", "-n"), input=text, text=True, capture_output=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr


@each_page
def test_make_targets_exist(page):
    made = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for said in said_as_code(page):
        for target in re.findall(r"(?:^|\$ |&& )make ([a-z]+)", said):
            assert target in made, f"{page.name}: make {target}"


@each_page
def test_commands_exist(page):
    for said in said_as_code(page):
        for words in re.findall(r"(?:^|[\s/])tram((?: [a-z]+)+)", said):
            named = words.split()
            assert any(tuple(named[: len(real)]) == real for real in commands()), f"{page.name}: tram{words}"


def test_every_command_is_told():
    for words in commands():
        assert f"`tram {' '.join(words)}" in OPERATE


@cache
def commands() -> set[tuple[str, ...]]:
    return set(leaves(typer.main.get_command(cli.app), ()))


def leaves(command, words):
    inner = getattr(command, "commands", {})
    for word, child in inner.items():
        yield from leaves(child, (*words, word))
    if not inner:
        yield words


@each_page
def test_settings_exist(page):
    known = {f"TRAM_{name.upper()}" for name in Settings.model_fields}
    for said in said_as_code(page):
        for name in re.findall(r"\bTRAM_[A-Z_]+\b", said):
            assert name in known or name.startswith("TRAM_TEST_"), f"{page.name}: {name}"


@each_page
def test_files_named_in_the_text_exist(page):
    """Such as `models/jobs.py`."""
    for said in CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.fullmatch(r"(?:api|workers|models|infra|tests|docs|examples|benchmarks)/[\w./]*", said):
            assert (ROOT / said).exists(), f"{page.name}: {said}"


def test_every_event_is_told():
    sent = {name for path in (ROOT / "api").rglob("*.py") for name in re.findall(r"event: (\w+)\\n", path.read_text())}
    assert sent
    for name in sent:
        assert f"| `{name}` |" in API


def test_every_header_of_our_own_is_told():
    sent = {name for path in (ROOT / "api").rglob("*.py") for name in re.findall(r'"(x-[a-z-]+)"', path.read_text())}
    assert {"x-request-id"} <= sent
    for name in sent:
        assert f"| `{name}` |" in API.lower()


def test_decisions_are_numbered_in_a_row():
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@each_decision
def test_a_decision_is_half_a_page_in_three_parts(page):
    text = page.read_text(encoding="utf-8")
    number = int(page.name[:4])
    assert re.match(rf"# {number}\. \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Choice", "What we gave up"]
    assert len(text.splitlines()) <= 40


def test_the_readme_is_short_and_says_what_the_demo_model_is():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 170
    assert "the model is a toy" in text
    assert "Valkey (Redis protocol)" in text
