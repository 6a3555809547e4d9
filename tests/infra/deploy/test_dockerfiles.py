"""Do the images hold what the code needs, pinned, and nothing that runs as root or comes from a folder of sources?"""

import fnmatch
import os
import re
import socket
import subprocess
import sys
import venv
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.specifiers import SpecifierSet

from api import stack
from api.commands import health
from infra import fleet, redis
from infra.engine import environment
from infra.ports import free_port
from infra.settings import Settings
from models.cards.card import resolve
from tests.infra.deploy.deployment import (
    IMAGES,
    ROOT,
    WITHIN_S,
    external_bases,
    final_stage,
    project,
    running_redis,
    stages_of,
    subcommands,
)

WORKERS = ("worker-cpu.Dockerfile", "worker.Dockerfile")
KINDS = {
    "astral/uv": r"\d+\.\d+\.\d+",
    "python": r"3\.\d+-slim-bookworm",
    "lmsysorg/sglang": r"v\d+\.\d+\.\d+",
}
DIGEST = r"(@sha256:[0-9a-f]{64})?"


@pytest.fixture(params=IMAGES)
def image(request) -> str:
    """Each Dockerfile's name."""
    return request.param


def tag_of(name: str, base: str) -> str:
    [tag] = {each.split(":")[1].partition("@")[0] for each in external_bases(name) if each.startswith(base + ":")}
    return tag


def shell(name: str) -> str:
    return "\n".join(step.rest for stage in stages_of(name) for step in stage.all("RUN"))


class Context:
    """What .dockerignore lets through: the last line that fits a path, or a folder above it, decides."""

    def __init__(self) -> None:
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        self._lines = [line for line in lines if line and not line.startswith("#")]

    def holds(self, path: str) -> bool:
        held = True
        for line in self._lines:
            if _fits(path, line.removeprefix("!")):
                held = line.startswith("!")
        return held


def _fits(path: str, pattern: str) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
    return any(each.count("/") == pattern.count("/") and fnmatch.fnmatchcase(each, pattern) for each in above)


class TestPins:
    def test_bases_are_three_and_carry_versions(self, image):
        for base in external_bases(image):
            name, tag = base.split(":", 1)
            assert re.fullmatch(KINDS[name] + DIGEST, tag), base

    def test_uv_is_the_makefiles(self, image):
        [pinned] = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert tag_of(image, "astral/uv") == pinned

    @pytest.mark.parametrize("name", ["api.Dockerfile", "worker-cpu.Dockerfile"])
    def test_python_is_one_the_project_runs_on(self, name):
        python = tag_of(name, "python").split("-")[0]
        assert SpecifierSet(project()["requires-python"]).contains(f"{python}.0")
        assert f"--python /usr/local/bin/python{python} " in shell(name)

    def test_the_engine_on_a_gpu_is_the_version_tested_on_the_cpu(self):
        lock = (ROOT / "infra" / "engine" / "cpu" / "requirements.lock").read_text()
        assert f"\nsglang=={tag_of('worker.Dockerfile', 'lmsysorg/sglang').removeprefix('v')} " in lock

    def test_packages_come_from_the_locks_with_hashes(self, image):
        installs = re.findall(r"uv (pip sync|build|pip install) ([^&\n]*)", shell(image))
        assert [kind for kind, _ in installs] == ["pip sync", "build", "pip install"]
        sync, build, install = (words for _, words in installs)
        assert "--require-hashes requirements.lock" in sync
        assert "--build-constraints requirements-dev.lock --require-hashes" in build
        assert "--no-deps /dist/*.whl" in install

    def test_the_lock_pins_what_builds_the_wheel(self):
        assert re.search(r"^hatchling==\S+ \\\n +--hash=", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)

    def test_labels_tell_the_release(self, image):
        labels = dict(pair.split("=", 1) for pair in final_stage(image).last("LABEL").words)
        assert labels["org.opencontainers.image.version"] == project()["version"]
        assert labels["org.opencontainers.image.licenses"] == project()["license"]
        assert labels["org.opencontainers.image.title"].startswith(project()["name"])


class TestContext:
    @pytest.mark.parametrize(
        "path",
        [".env", ".git/config", ".venv/bin/tram", "tram-data/tramontane.db", "tests/conftest.py", "docs/deploy.md",
         "infra/deploy/api.Dockerfile", "api/__pycache__/cli.cpython-311.pyc", "models/cards/card.pyc"],
    )  # fmt: skip
    def test_secrets_data_and_leavings_stay_out(self, path):
        assert not Context().holds(path)

    @pytest.mark.parametrize(
        "path",
        ["api/cli.py", "workers/app.py", "models/cards/tram-demo.toml", "infra/engine/cpu/model/model.safetensors",
         "infra/engine/cpu/plugin/pyproject.toml", "pyproject.toml", "LICENSE", project()["readme"]],
    )  # fmt: skip
    def test_what_the_wheel_is_made_of_goes_in(self, path):
        assert Context().holds(path)

    def test_copies_find_what_they_copy(self, image):
        known: set[str] = set()
        for stage in stages_of(image):
            for step in stage.all("COPY"):
                origin, *sources = [word for word in step.words if word.startswith("--from=")] or [""], *step.words[:-1]
                if origin[0]:
                    assert origin[0].removeprefix("--from=") in known
                else:
                    assert all(
                        source == "." or ((ROOT / source).exists() and Context().holds(source)) for source in sources
                    )
            known.add(stage.name)

    def test_no_sources_reach_the_image(self, image):
        final = final_stage(image)
        assert all(step.rest.startswith("--from=") for step in final.all("COPY"))
        assert {step.words[-1] for step in final.all("COPY")} <= {"/opt/tram", "/opt/engine"}
        assert final.last("WORKDIR").rest == "/srv"


class TestWhatRuns:
    def test_the_command_is_one_tram_has(self, image):
        program, *words = final_stage(image).last("CMD").words
        assert program == "tram"
        assert tuple(words) in subcommands()
        assert [step.rest for step in final_stage(image).all("ENTRYPOINT")] in ([], ["[]"])

    def test_commands_of_the_build_are_too(self):
        [words] = re.findall(r"/opt/tram/bin/tram (\w+ \w+)", shell("worker-cpu.Dockerfile"))
        assert tuple(words.split()) in subcommands()

    def test_it_is_not_root(self, image):
        final = final_stage(image)
        [uid] = re.findall(r"useradd --uid (\d+) ", shell(image))
        assert final.last("USER").rest == uid
        assert int(uid) >= 1000
        assert final.steps.index(final.last("USER")) > final.steps.index(final.last("RUN"))

    def test_variables_are_settings_the_code_takes(self, image, monkeypatch):
        told = {name: value for name, value in final_stage(image).variables.items() if name.startswith("TRAM_")}
        assert {name.removeprefix("TRAM_").lower() for name in told} <= set(Settings.model_fields)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        settings = Settings(_env_file=None)
        assert str(settings.data_dir) in shell(image)
        assert final_stage(image).variables["PATH"].startswith("/opt/tram/bin:")

    def test_python_was_compiled_when_the_image_was_built(self, image):
        build = next(stage for stage in stages_of(image) if stage.name == "build")
        assert build.variables["UV_COMPILE_BYTECODE"] == "1"

    def test_the_api_listens_to_all_and_says_where(self):
        final = final_stage("api.Dockerfile")
        assert final.variables["TRAM_HOST"] == "0.0.0.0"
        assert int(final.last("EXPOSE").rest) == Settings.model_fields["port"].default


class Answering(BaseHTTPRequestHandler):
    """The outer wall: an API that answers what the test wants."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/ready" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class TestHealth:
    """The checks as they stand in the images, run against what they ask."""

    @pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
    def test_an_api_is_healthy_when_it_is_ready(self, status, healthy):
        handler = type("Handler", (Answering,), {"status": status})
        with HTTPServer(("127.0.0.1", 0), handler) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            assert healthy == (self.asked("api.Dockerfile", TRAM_PORT=str(server.server_port)) == 0)
            server.shutdown()
            thread.join(WITHIN_S)

    def test_an_api_that_is_gone_is_not(self):
        assert self.asked("api.Dockerfile", TRAM_PORT=str(free_port("127.0.0.1")))

    @pytest.mark.parametrize("name", WORKERS)
    async def test_a_worker_is_healthy_while_it_shows_itself(self, name, tmp_path):
        with running_redis(["valkey-server"], tmp_path) as place:
            where = {"TRAM_REDIS_URL": f"unix://{place}"}
            async with redis.client(where["TRAM_REDIS_URL"]) as client:
                await fleet.announce(client, a_worker(host="elsewhere"), resolve("tram-demo"))
                assert self.asked(name, **where)
                await fleet.announce(client, a_worker(host=socket.gethostname()), resolve("tram-demo"))
                assert self.asked(name, **where) == 0

    @pytest.mark.parametrize("name", WORKERS)
    def test_a_worker_that_mends_its_engine_is_not_replaced(self, name):
        assert "--ready" not in final_stage(name).health_program

    @pytest.mark.parametrize("name", WORKERS)
    def test_a_starting_engine_has_the_time_that_tram_gives_it(self, name):
        assert final_stage(name).health_option_s("start-period") >= stack._ENGINE_START_S

    def test_a_starting_api_has_too(self):
        assert final_stage("api.Dockerfile").health_option_s("start-period") >= stack._START_S

    def test_an_answer_is_awaited_for_less_than_docker_waits(self, image):
        assert final_stage(image).health_option_s("timeout") > health._BOUND_S

    def asked(self, name: str, **variables: str) -> int:
        """The exit status of an image's health check."""
        program, *words = final_stage(name).health_program
        assert program == "tram"
        command = [Path(sys.executable).with_name(program), *words]
        given = os.environ | variables
        return subprocess.run(command, env=given, capture_output=True, timeout=WITHIN_S, check=False).returncode


def a_worker(host: str) -> fleet.Worker:
    return fleet.Worker(
        name=f"{host}-1",
        host=host,
        pid=os.getpid(),
        card="tram-demo",
        capacity=1,
        engine=fleet.Engine(joined=False, ready=False),
        version=project()["version"],
        since=0.0,
    )


class TestEngine:
    def test_on_the_cpu_tram_finds_what_it_built(self):
        engine = next(stage for stage in stages_of("worker-cpu.Dockerfile") if stage.name == "engine")
        final = final_stage("worker-cpu.Dockerfile")
        place = engine.variables["TRAM_ENGINE_ENV"]
        assert final.variables["TRAM_ENGINE_ENV"] == place
        assert f"--from=engine {place} {place}" in {step.rest for step in final.all("COPY")}
        assert engine.base == "build"  # one interpreter and one release of ours made it and will look at it

    def test_on_a_gpu_the_weights_have_a_place_that_is_ours(self):
        final = final_stage("worker.Dockerfile")
        assert final.variables["HF_HOME"] in final.last("RUN").words
        assert "cuda" in resolve("mistral-small-24b-instruct-2501-awq").devices

    def test_on_a_gpu_tram_finds_an_sglang_that_runs_from_a_checkout(self, tmp_path):
        """The image's own layout (an environment, and a `.pth` that names the checkout), and the image's own line of shell."""
        env, checkout = tmp_path / "env", tmp_path / "checkout"
        self.lay_out(env, checkout)
        assert environment.problem(env, "cuda")
        self.link(env)
        assert environment.problem(env, "cuda") is None
        code = "import sglang.launch_server as it; print(it.ORIGIN)"
        run = subprocess.run(
            [env / "bin/python", "-P", "-c", code], capture_output=True, text=True, timeout=WITHIN_S, check=True
        )
        assert run.stdout == "checkout\n"

    def test_the_build_fails_where_the_image_holds_sglang_itself(self, tmp_path):
        env, checkout = tmp_path / "env", tmp_path / "checkout"
        self.lay_out(env, checkout)
        self.link(env)
        with pytest.raises(subprocess.CalledProcessError):
            self.link(env)

    def lay_out(self, env: Path, checkout: Path) -> None:
        venv.create(env)
        (checkout / "sglang").mkdir(parents=True)
        (checkout / "sglang" / "__init__.py").touch()
        (checkout / "sglang" / "launch_server.py").write_text("ORIGIN = 'checkout'\n")
        [packages] = env.glob("lib/python3.*/site-packages")
        (packages / "checkout.pth").write_text(f"{checkout}\n")

    def link(self, env: Path) -> None:
        line = final_stage("worker.Dockerfile").all("RUN")[0].rest.partition(" && useradd")[0]
        place = final_stage("worker.Dockerfile").variables["TRAM_ENGINE_ENV"]
        assert line.count(place) == 2
        subprocess.run(["sh", "-c", line.replace(place, str(env))], timeout=WITHIN_S, check=True, capture_output=True)
