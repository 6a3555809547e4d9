"""Do the examples for other people's clients print what they should?  Each is run as it stands, with the toy model's known answers.

curl, OpenAI's client for Python in two major versions and for Node, aigateway-py, LangChain and Vercel's AI SDK.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.borrowed import node_with, python_with
from tests.flow.stack import Stack, cleaned

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENTS = Path(__file__).parent / "environments"
WITHIN_S = 120
PARIS = "The capital of France is Paris."
FORTY_TWO = "6 times 7 is 42."
IN_LONDON = re.compile(r".*14 degrees and cloudy.*")
PRINTED_BY_OPENAI = [
    PARIS,
    'get_weather {"location": "London"}',
    IN_LONDON,
    "Oslo",
    f"True {FORTY_TWO}",
    "400 temperature",
]


def printed(stack: Stack, *command: object) -> list[str]:
    """The lines a program prints that is told where the stack is as the examples say."""
    told = {"OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.key, "no_proxy": "*"}
    environment = {name: value for name, value in cleaned(os.environ).items() if name != "PYTHONPATH"} | told
    words = [str(word) for word in command]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def same(lines: list[str], wanted: list[str | re.Pattern[str]]) -> bool:
    pairs = zip(lines, wanted, strict=True)
    return all(line == want if isinstance(want, str) else want.fullmatch(line) for line, want in pairs)


@pytest.mark.parametrize("major", [2, 3])
def test_openai_python(stack, major):
    """The pinned one, and the major version before it."""
    python = sys.executable if major == 3 else python_with(ENVIRONMENTS / "openai-2.txt")
    (version,) = printed(stack, python, "-c", "import openai; print(openai.__version__)")
    assert version.startswith(f"{major}.")
    lines = printed(stack, python, EXAMPLES / "openai_python.py")
    assert same(lines, PRINTED_BY_OPENAI), lines


def test_aigateway_py(stack):
    lines = printed(stack, sys.executable, EXAMPLES / "aigateway_jobs.py")
    assert lines == [f"completed {PARIS}", "replay tram-demo to tram-demo", "whsec_", "['tram-demo']"]


def test_curl(stack):
    whole, *stream, called, shaped, job = [line for line in printed(stack, "sh", EXAMPLES / "chat.sh") if line]
    assert json.loads(whole)["choices"][0]["message"]["content"] == PARIS
    assert stream[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in stream[:-1] if line.startswith("data: ")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == PARIS
    (call,) = json.loads(called)["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"location": "London"}
    assert json.loads(json.loads(shaped)["choices"][0]["message"]["content"]) == {"city": "Oslo", "country": "Norway"}
    assert stack.ended(json.loads(job)["id"])["result"]["choices"][0]["message"]["content"] == FORTY_TWO


def test_langchain(stack):
    python = python_with(EXAMPLES / "langchain" / "requirements.txt")
    lines = printed(stack, python, EXAMPLES / "langchain" / "chat.py")
    wanted = [PARIS, "get_weather {'location': 'London'}", IN_LONDON, "Capital(city='Oslo', country='Norway')"]
    assert same(lines, wanted), lines


def test_openai_node(stack):
    lines = printed(stack, "node", node_with(EXAMPLES / "node") / "openai.mjs")
    refused = [
        "BadRequestError 400 temperature invalid_request",
        "NotFoundError 404 model model_not_found",
        "AuthenticationError 401 Authorization invalid_api_key",
    ]
    batch = [f"completed {FORTY_TWO}", "true"]
    assert same(lines, [*PRINTED_BY_OPENAI[:-2], f"true {FORTY_TWO}", "kept", "true", *batch, *refused]), lines


def test_vercels_ai_sdk(stack):
    lines = printed(stack, "node", node_with(EXAMPLES / "node") / "ai-sdk.mjs")
    assert same(lines, [PARIS, "get_weather London", IN_LONDON, "Oslo Norway"]), lines


def test_what_is_pinned_for_node_names_no_registry():
    lock = json.loads((EXAMPLES / "node" / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert packages
    assert all("resolved" not in package and package["integrity"].startswith("sha512-") for package in packages)
