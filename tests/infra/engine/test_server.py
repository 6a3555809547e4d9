"""Is SGLang started as the cards say, and does the engine that comes of it answer?"""

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from infra.engine import server
from infra.engine.call_text import CallText
from infra.ports import free_port
from infra.settings import Settings
from models.cards.card import catalogue
from models.cards.gpus import Gpu
from models.errors import Unavailable

DEMO = catalogue()["tram-demo"]
REAL = catalogue()["mistral-small-24b-instruct-2501-awq"]
ENV = Path("/somewhere/env")
DIALOGUES = [
    json.loads(line)
    for line in (Path(server.__file__).parent / "cpu" / "training" / "dialogues.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
ANSWER_S = 60.0
PARSE = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(allow_abbrev=False)
ServerArgs.add_cli_args(parser)
print(len([parser.parse_args(arguments) for arguments in json.loads(sys.argv[1])]))
"""
FORMAT = """
import sys
from sglang.srt.parser.jinja_template_utils import detect_jinja_template_content_format
print(detect_jinja_template_content_format(open(sys.argv[1], encoding="utf-8").read()))
"""


def option(command, name):
    return command[command.index(name) + 1]


def test_the_demo_runs_on_the_cpu_from_packaged_weights():
    command = server.command(DEMO, env=ENV, port=4711, device="cpu")
    assert command[:4] == ("/somewhere/env/bin/python", "-P", "-m", "sglang.launch_server")
    assert (Path(option(command, "--model-path")) / "model.safetensors").is_file()
    assert option(command, "--device") == "cpu"
    assert option(command, "--host") == "127.0.0.1"
    assert option(command, "--port") == "4711"
    assert option(command, "--served-model-name") == "tram-demo"
    assert option(command, "--context-length") == "8192"
    assert option(command, "--schedule-policy") == "lpm"
    assert command[command.index("--sleep-on-idle") + 1 :] == ()
    assert "True" not in command
    assert "--revision" not in command


def test_the_24b_runs_on_a_gpu_from_its_repository():
    command = server.command(REAL, env=ENV, port=1, device="cuda")
    assert option(command, "--model-path") == "casperhansen/mistral-small-24b-instruct-2501-awq"
    assert option(command, "--revision") == "main"
    assert option(command, "--quantization") == "awq_marlin"
    assert option(command, "--dtype") == "half"
    assert "--tool-call-parser" not in command, "SGLang's swallows what the 24B writes; calls are read here"
    assert "--sleep-on-idle" not in command


@pytest.mark.parametrize(("gpu", "running"), [(None, "32"), (Gpu.L40S, "32"), (Gpu.A100, "80"), (Gpu.H200, "128")])
def test_the_class_of_gpu_decides_how_much_runs(gpu, running):
    command = server.command(REAL, env=ENV, port=1, device="cuda", gpu=gpu)
    assert option(command, "--max-running-requests") == running


def test_deterministic_inference_is_asked_of_gpus_alone():
    """SGLang would not start with it on a CPU."""
    flag = "--enable-deterministic-inference"
    assert flag in server.command(REAL, env=ENV, port=1, device="cuda", deterministic=True)
    assert flag not in server.command(REAL, env=ENV, port=1, device="cuda")
    assert flag not in server.command(DEMO, env=ENV, port=1, device="cpu", deterministic=True)


def test_a_card_may_bring_its_chat_template():
    command = server.command(REAL, env=ENV, port=1, device="cuda")
    assert Path(option(command, "--chat-template")) == server.chat_template(REAL)
    assert server.chat_template(REAL).is_file()
    assert server.chat_template(DEMO) is None
    assert "--chat-template" not in server.command(DEMO, env=ENV, port=1, device="cpu")


def test_only_packaged_weights_forbid_fetching():
    assert server.variables(DEMO, "cpu")["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in server.variables(REAL, "cuda")
    assert "OMP_NUM_THREADS" not in server.variables(REAL, "cuda")
    assert server.variables(DEMO, "cpu")["PYTHONDONTWRITEBYTECODE"] is None


def test_each_kind_of_machine_has_a_card():
    assert server.default_card("cuda") is REAL
    assert server.default_card("cpu") is DEMO


def test_a_card_goes_where_it_can_be_served():
    assert server.device_for(REAL, "cuda") == "cuda"
    assert server.device_for(DEMO, "cuda") == "cpu"
    assert server.device_for(DEMO, "cpu") == "cpu"
    with pytest.raises(Unavailable, match="needs a GPU"):
        server.device_for(REAL, "cpu")


def test_the_driver_tells_of_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server.device() == "cpu"
    (tmp_path / "nvidiactl").touch()
    assert server.device() == "cpu"
    (tmp_path / "nvidia0").touch()
    assert server.device() == "cuda"


@asynccontextmanager
async def strangers_server(statuses):
    """An engine that answers each path with a status, and 404 otherwise."""

    async def answer(request):
        return web.Response(status=statuses.get(request.path, 404))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("statuses", "ready"),
    [
        ({"/ready": 200}, True),
        ({"/ready": 503, "/v1/models": 200}, False),
        ({"/v1/models": 200}, True),
        ({"/v1/models": 500}, False),
        ({}, False),
    ],
)
async def test_readiness_is_asked_for_in_two_ways(statuses, ready):
    async with strangers_server(statuses) as url:
        assert await server.is_ready(url) is ready
        assert await server.is_ready(f"{url}/v1/") is ready


async def test_nobody_listening_is_not_ready():
    assert not await server.is_ready(f"http://127.0.0.1:{free_port('127.0.0.1')}")


async def ask(http, url, messages, **more):
    body = {"model": DEMO.id, "messages": messages, "temperature": 0, "max_tokens": 600, **more}
    async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def turns():
    """Each of the model's own answers, with what comes before it."""
    for dialogue in DIALOGUES:
        for index, message in enumerate(dialogue["messages"]):
            if message["role"] == "assistant":
                yield dialogue["messages"][:index], dialogue.get("tools"), message


def said(choice):
    """What a whole answer says and calls; the engine leaves the calls in its text."""
    text, calls = CallText().feed(choice["message"]["content"] or "", last=True)
    return text, [named(call) for call in calls], "tool_calls" if calls else choice["finish_reason"]


def named(call):
    return call["function"]["name"], json.loads(call["function"]["arguments"])


@pytest.mark.engine
async def test_the_engine_is_the_one_described(engine_url):
    assert await server.is_ready(engine_url)
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        models = await (await http.get(f"{engine_url}/v1/models")).json()
        told = await (await http.get(f"{engine_url}/server_info")).json()
    assert [(model["id"], model["max_model_len"]) for model in models["data"]] == [(DEMO.id, DEMO.context_tokens)]
    assert {name: told[name.replace("-", "_")] for name in DEMO.flags_on("cpu")} == DEMO.flags_on("cpu")


@pytest.mark.engine
def test_sglang_knows_every_flag():
    env = Settings(_env_file=None).engine_environment
    commands = [
        server.command(card, env=env, port=1, device=device, gpu=gpu)
        for card in catalogue().values()
        for device in card.devices
        for gpu in (None, *Gpu)
    ]
    python = commands[0][0]
    asked = json.dumps([arguments for _, _, _, _, *arguments in commands])
    done = subprocess.run(
        [python, "-P", "-W", "ignore", "-c", PARSE, asked],
        check=False,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{len(commands)}\n"


@pytest.mark.engine
def test_sglang_hands_our_chat_template_parts_and_images():
    template = server.chat_template(REAL)
    python = Settings(_env_file=None).engine_environment / "bin" / "python"
    done = subprocess.run(
        [python, "-P", "-W", "ignore", "-c", FORMAT, template],
        check=False, capture_output=True, text=True, timeout=ANSWER_S,
    )  # fmt: skip
    assert done.stdout == "openai\n", done.stderr


@pytest.mark.engine
async def test_the_demo_says_what_it_knows_by_heart(engine_url):
    asked = list(turns())
    places = asyncio.Semaphore(8)

    async def check(http, messages, tools, wanted):
        async with places:
            answer = await ask(http, engine_url, messages, **({"tools": tools} if tools else {}))
        calls = [named(call) for call in wanted.get("tool_calls") or []]
        right = (wanted.get("content") or "", calls, "tool_calls" if calls else "stop")
        return (messages, said(answer["choices"][0])) if said(answer["choices"][0]) != right else None

    async with asyncio.timeout(ANSWER_S), aiohttp.ClientSession() as http:
        wrong = [miss for miss in await asyncio.gather(*(check(http, *turn) for turn in asked)) if miss]
    assert len(asked) > 150
    assert wrong == []


@pytest.mark.engine
async def test_a_prompt_that_was_seen_comes_from_the_cache(engine_url):
    messages = [{"role": "user", "content": "What is the capital of France? " * 20}]
    async with aiohttp.ClientSession() as http:
        await ask(http, engine_url, messages, max_tokens=1)
        usage = (await ask(http, engine_url, messages, max_tokens=1))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
