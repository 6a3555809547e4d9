"""Is the plan what will be done: the command line, the arithmetic, the jobs that follow?"""

import json
import shlex

import pytest

from models.cards.budget import budget
from models.cards.card import catalogue
from models.cards.gpus import CLASSES, Gpu

DEMO, AWQ = catalogue()["tram-demo"], catalogue()["mistral-small-24b-instruct-2501-awq"]
VISION = catalogue()["mistral-small-3.1-24b-instruct-2503"]
ENV = "/an/environment"


def option(words, name):
    return words[words.index(name) + 1]


def test_without_a_gpu_the_plan_is_the_demos(tram):
    done = tram("engine", "plan", TRAM_ENGINE_ENV=ENV)
    assert (done.returncode, done.stderr) == (0, "")
    title, command, words = done.stdout.strip().split("\n\n")
    assert title == "tram-demo on CPU"
    assert shlex.split(command)[0] == f"{ENV}/bin/python"
    assert option(shlex.split(command), "--device") == "cpu"
    assert "65,536 tokens at 768 bytes each" in words
    assert "a worker holds 24 jobs" in words


@pytest.mark.parametrize("gpu", Gpu)
def test_a_named_gpu_needs_not_be_here(tram, gpu):
    done = tram("engine", "plan", "--gpu", gpu.upper(), "--model", VISION.id)
    title, command, words = done.stdout.strip().split("\n\n")
    held = budget(VISION, "cuda", gpu)
    assert title == f"{VISION.id} on {CLASSES[gpu].title}"
    assert option(shlex.split(command), "--max-running-requests") == str(held.running)
    assert ("--kv-cache-dtype" in command) is (gpu is Gpu.L40S)
    assert f"{held.kv_tokens:,} tokens" in words


def test_the_command_survives_a_narrow_terminal(tram):
    wide, narrow = (tram("engine", "plan", "--gpu", "h200", COLUMNS=columns).stdout for columns in ("300", "30"))
    assert wide == narrow


def test_this_machines_gpu_is_found(tram):
    told = json.loads(tram("engine", "plan", "--json", gpu="NVIDIA H100 80GB HBM3, 81559").stdout)
    assert (told["model"], told["device"], told["gpu"]) == (AWQ.id, "cuda", "h100")
    assert told["budget"]["concurrency"] == AWQ.concurrency_on("cuda", Gpu.H100)
    assert option(told["command"], "--max-running-requests") == "80"
    assert told["variables"]["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] == "0"


def test_a_smaller_gpu_is_counted_with_its_own_memory(tram):
    done = tram("engine", "plan", gpu="NVIDIA GeForce RTX 4090, 24564")
    assert "on NVIDIA GeForce RTX 4090, 24,564 MiB" in done.stdout
    assert f"{budget(AWQ, 'cuda', None, 24_564).kv_tokens:,} tokens" in done.stdout
    assert "too few for the longest request that the card promises" in done.stdout


def test_the_model_that_is_set_is_planned_for(tram):
    told = json.loads(tram("engine", "plan", "--gpu", "h200", "--json", TRAM_MODEL="tram-demo").stdout)
    assert (told["model"], told["device"], told["gpu"]) == ("tram-demo", "cpu", None)
    assert told["budget"]["gpu_memory_mib"] is None
    told = json.loads(
        tram("engine", "plan", "--gpu", "h200", "--model", AWQ.id, "--json", TRAM_MODEL="tram-demo").stdout
    )
    assert (told["model"], told["gpu"]) == (AWQ.id, "h200")


@pytest.mark.parametrize(
    ("words", "gpu", "says"),
    [
        (("--gpu", "b200"), "", "no flags are written for a GPU called 'b200'; there are l40s, a100, h100, h200"),
        (("--model", "gpt"), "", f"no card is called 'gpt'; there are {', '.join(catalogue())}"),
        ((), "NVIDIA GB10, [N/A]", "nvidia-smi does not tell which GPU this machine has; name one with --gpu"),
        (
            ("--model", AWQ.id),
            "",
            f"{AWQ.id} needs a GPU, and this machine shows none; {DEMO.id} is served without one",
        ),
    ],
)
def test_what_cannot_be_planned_is_one_line(tram, words, gpu, says):
    done = tram("engine", "plan", *words, gpu=gpu)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tram: {says}\n")
