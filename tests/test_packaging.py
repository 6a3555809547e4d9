"""Is the wheel the whole product and nothing else?  Built as the images build it, and put into an environment of its own.

Relies on hatchling, and on the pip of the interpreter behind this environment; fetches nothing.
"""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from infra.engine.server import default_card, model_path

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "infra", "models", "workers")
NOT_SHIPPED = ("infra/deploy/",)
WITHIN_S = 60.0


def said(*words: object, variables: dict[str, str] | None = None, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **(variables or {})},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    said(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The wheel alone."""
    place = tmp_path_factory.mktemp("clean") / "env"
    venv.create(place)
    pip = [sys._base_executable, "-m", "pip", "--python", place / "bin" / "python"]
    said(*pip, "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", wheel)
    return place


@pytest.fixture
def run(environment, tmp_path):
    """Runs a program of the environment where there are no sources, with this environment's libraries but not its Tramontane."""
    libraries = sysconfig.get_path("purelib")  # on PYTHONPATH its `.pth` files, which lead to the sources, are not read

    def run(program: str, *words: str, **variables: str) -> str:
        return said(
            environment / "bin" / program, *words, variables={"PYTHONPATH": libraries, **variables}, folder=tmp_path
        )

    return run


def sources() -> set[str]:
    found = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    named = {path.relative_to(ROOT).as_posix() for path in found if path.suffix != ".pyc"}
    return {name for name in named if not name.startswith(NOT_SHIPPED)}


def test_it_holds_four_packages_whole(names):
    inside = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in inside} == set(PACKAGES)
    assert inside == sources()


def test_it_is_called_what_the_project_is(wheel, names):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    called = f"{project['name']}-{project['version']}"
    assert wheel.name == f"{called}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"{called}.dist-info"}


@pytest.mark.parametrize(
    "name",
    [
        "models/cards/tram-demo.toml",
        "models/cards/mistral-small-24b-instruct-2501-awq.toml",
        "models/migrations/script.py.mako",
        "models/migrations/versions/2026_11_20_first_tables.py",
        "infra/engine/cpu/requirements.lock",
        "infra/engine/cpu/plugin/pyproject.toml",
        *(f"infra/engine/cpu/model/{file.name}" for file in Path(model_path(default_card("cpu"))).iterdir()),
    ],
)
def test_what_is_no_python_is_there_too(names, name):
    assert name in names


def test_deployment_stays_out(names):
    assert (ROOT / "infra" / "deploy").is_dir()
    assert not any(name.startswith(NOT_SHIPPED) for name in names)


def test_the_four_names_come_from_it(run, environment):
    code = "import api.app, workers.task, infra.engine.server as server, models.cards.card as cards, infra, models\n"
    code += "for package in (api, infra, models, workers): print(package.__file__)\n"
    code += "print(server.model_path(server.default_card('cpu')), *cards.catalogue(), sep='\\n')"
    told = run("python", "-c", code).splitlines()
    [packages] = environment.glob("lib/python3.*/site-packages")
    assert told[:4] == [str(packages / name / "__init__.py") for name in PACKAGES]
    assert Path(told[4]).samefile(packages / "infra" / "engine" / "cpu" / "model")
    assert set(told[5:]) == {card.stem for card in (ROOT / "models" / "cards").glob("*.toml")}


def test_its_command_sets_up_a_database(run, tmp_path):
    told = run("tram", "migrate", TRAM_DATA_DIR=str(tmp_path / "data"), TRAM_API_KEY="sk-tram-of-the-packaging-test")
    assert "up to date" in told
    assert (tmp_path / "data" / "tramontane.db").is_file()
