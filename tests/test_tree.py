"""Does the tree keep the house's rules?  Sizes, names, and who alone may do what; read from the source, not from a run.

What ruff, mypy and import-linter can hold is theirs (`make check`).  Relies on git to tell which files are the repository's.
"""

import ast
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "workers", "models", "infra")
TOP = {
    *PACKAGES,
    *("tests", "docs", "examples", "benchmarks"),
    *("pyproject.toml", "docker-compose.yml", "Makefile", "requirements.lock", "requirements-dev.lock"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
}
BANNED = {"utils", "util", "helpers", "helper", "common", "core", "base_service", "manager"}

FUNCTION_LINES, MEDIAN_LINES = 50, 8
MODULE_LINES, TEST_LINES = 300, 500

COMMITS = {"infra/database.py", "infra/schema.py"}
"""Verbs never commit: one of these does, for them."""
READS_SETTINGS = {"api/app.py", "api/cli.py", "workers/app.py", "workers/upkeep.py"}
"""The edges; everything else is handed values."""

ENDING = {"begin", "commit", "rollback"}

REGISTRY = re.compile(r"(?:p[y]pi|python[h]osted|n[p]mjs|yarn[p]kg|anaconda)\.(?:org|com)|crates\.io|proxy\.golang")
HOME = re.compile(r"/(?:home|Users|root)/[.\w]")
OWN_VARIABLE = re.compile(r"environ\W{1,3}(?:get\W{1,3})?TRAM_")
BINARY = {".safetensors", ".png"}
DRAFTED = "models/migrations/versions/"
"""By Alembic, a table after the other."""
LOCKS = ("requirements.lock", "requirements-dev.lock", "infra/engine/cpu/requirements.lock")


@cache
def files() -> tuple[Path, ...]:
    """What is in the repository or about to be; git would not look into somebody else's checkout unless told."""
    git = ("git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    told = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    return tuple(path for name in sorted(filter(None, told.split("\0"))) if (path := ROOT / name).is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def calls(path: Path) -> list[tuple[int, str, bool]]:
    """Line, name, and whether it stands alone or is something's method."""
    found = [(node.lineno, node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    names = [(line, func.id, True) for line, func in found if isinstance(func, ast.Name)]
    return names + [(line, func.attr, False) for line, func in found if isinstance(func, ast.Attribute)]


def sources(*folders: str) -> list[Path]:
    """Python files, all or those in some folders."""
    return [path for path in files() if path.suffix == ".py" and name_of(path).startswith(folders or ("",))]


def packaged() -> list[Path]:
    return sources(*(f"{package}/" for package in PACKAGES))


def texts(*, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Every text by its name; `but` names folders and files left out."""
    readable = [path for path in files() if path.suffix not in BINARY and not name_of(path).startswith(but or ("//",))]
    return {name_of(path): path.read_text(encoding="utf-8") for path in readable}


def offenders(paths: Iterable[Path], found: Callable[[Path], object]) -> dict[str, object]:
    return {name_of(path): wrong for path in paths if (wrong := found(path))}


def test_the_top_level_is_fixed():
    top = {path.relative_to(ROOT).parts[0] for path in files()}
    assert {name for name in top if not name.startswith(".")} <= TOP


def test_nothing_bears_a_name_that_says_nothing():
    def banned(path: Path) -> set[str]:
        return BANNED & {Path(part).stem.lower().replace("-", "_") for part in path.relative_to(ROOT).parts}

    assert offenders(files(), banned) == {}


def test_every_module_says_what_it_answers():
    assert offenders(sources(), lambda path: parsed(path).body and not ast.get_docstring(parsed(path))) == {}


def test_modules_are_short():
    def too_long(path: Path) -> int:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return lines if lines > (TEST_LINES if name_of(path).startswith("tests/") else MODULE_LINES) else 0

    assert offenders(sources(), too_long) == {}


def test_functions_are_short():
    def too_long(path: Path) -> dict[str, int]:
        return {each.name: lines_of(each) for each in functions(path) if lines_of(each) > FUNCTION_LINES}

    written = [path for path in sources() if not name_of(path).startswith(DRAFTED)]
    assert offenders(written, too_long) == {}


def test_half_of_the_functions_are_very_short():
    assert statistics.median(lines_of(function) for path in packaged() for function in functions(path)) <= MEDIAN_LINES


def test_packages_do_not_print():
    assert (
        offenders(packaged(), lambda path: [line for line, name, own in calls(path) if name == "print" and own]) == {}
    )


def test_one_place_commits():
    def ends_a_transaction(path: Path) -> list[tuple[int, str]]:
        return [(line, name) for line, name, own in calls(path) if name in ENDING and not own]

    assert offenders(packaged(), ends_a_transaction).keys() == COMMITS


def test_settings_are_read_at_the_edge():
    made = offenders(packaged(), lambda path: [line for line, name, _ in calls(path) if name == "Settings"])
    assert made.keys() == READS_SETTINGS
    assert offenders(packaged(), lambda path: OWN_VARIABLE.findall(path.read_text(encoding="utf-8"))) == {}


def test_no_file_names_a_registry():
    assert [(name, found[0]) for name, text in texts().items() if (found := REGISTRY.search(text))] == []


def test_no_file_names_a_place_on_its_author_s_machine():
    """Containers have homes of their own, which the files that describe them may name."""
    told = texts(but=("infra/deploy/", "docker-compose.yml", "tests/infra/deploy/"))
    assert [name for name, text in told.items() if HOME.search(text)] == []
    here = f"{ROOT}/"
    assert len(ROOT.parts) < 3 or [name for name, text in told.items() if here in text] == []


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_hold_hashes_and_no_addresses(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.split(r"^(?=[\w.\[\]-]+==)", text, flags=re.MULTILINE)[1:]
    assert pins
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
