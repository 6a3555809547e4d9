"""Does the count made at the door for the 24B cards equal what SGLang counts for them?

Both cards are served on the CPU, started as a worker starts them, from a checkpoint that has their tokenizer, their settings and no
weights worth the name.  What is not tried is the real checkpoints' files: test_mistral_tokenizer.py compares those that it is given.
"""

import asyncio
import base64
import io
import os
import random
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress

import aiohttp
import pytest
from PIL import Image

from infra.engine import server
from infra.engine.environment import problem
from infra.engine.tokenizer import counter_for
from infra.ports import free_port
from infra.settings import Settings
from models.cards.card import catalogue
from tests.infra.engine import tiny_mistral
from tests.infra.engine.awkward import Awkward, user

DEMO = catalogue()["tram-demo"]
TEXT_ONLY = catalogue()["mistral-small-24b-instruct-2501-awq"]
WITH_EYES = catalogue()["mistral-small-3.1-24b-instruct-2503"]
START_S = 150.0  # 25 s on idle cores
ALL_S = 120.0
MADE_UP = 150
SIZES = [(1, 1), (28, 28), (29, 57), (640, 480), (1540, 28), (1541, 300), (1999, 31), (3000, 2000)]
KINDS = [("png", {}), ("jpeg", {}), ("gif", {}), ("webp", {"lossless": True}), ("webp", {})]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(START_S + ALL_S)]


@pytest.fixture(scope="module", params=[TEXT_ONLY, WITH_EYES], ids=lambda card: card.id)
def served(request, tmp_path_factory):
    """A card and its engine's address."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_mistral.write(folder, sees_images="image" in request.param.modalities)
    card = request.param.model_copy(update={"weights": str(folder), "flags": DEMO.flags, "context_tokens": 32_768})
    env, port = Settings(_env_file=None).engine_environment, free_port("127.0.0.1")
    if reason := problem(env):
        pytest.fail(f"{reason} `make setup` installs it; `-m 'not engine'` leaves these tests out.")
    told = {name: value for name, value in {**os.environ, **server.variables(DEMO, "cpu")}.items() if value is not None}
    argv = [*server.command(card, env=env, port=port, device="cpu"), "--load-format", "dummy"]
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(argv, stdout=log, stderr=log, env=told, start_new_session=True)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/ready", engine, folder / "log")
        yield request.param, f"http://127.0.0.1:{port}"
    finally:
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()


def wait_until_ready(url, engine, log):
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        with suppress(subprocess.TimeoutExpired):
            engine.wait(0.2)
            break
    pytest.fail(f"the engine did not start:\n{log.read_text(errors='replace')[-4000:]}")


async def differences(served, requests):
    card, url = served
    counter, places = counter_for(card), asyncio.Semaphore(8)

    async def differs(http, request):
        body = {**request, "model": card.id, "max_tokens": 1}
        async with places, http.post(f"{url}/v1/chat/completions", json=body) as answer:
            told = await answer.json()
        counted = counter.count(**request)
        return None if told["usage"]["prompt_tokens"] == counted else (counted, told["usage"], request)

    async with asyncio.timeout(ALL_S), aiohttp.ClientSession(raise_for_status=True) as http:
        found = await asyncio.gather(*(differs(http, request) for request in requests))
    return [difference for difference in found if difference]


async def test_text_and_tools_count_the_same(served):
    awkward = Awkward(seed=11)
    requests = [*(awkward.request() for _ in range(MADE_UP)), {"messages": [user("a few words " * 1000)]}]
    assert await differences(served, requests) == []


async def test_a_raw_prompt_counts_the_same(served):
    card, url = served
    text = "Once upon </s> a time, हिन्दी"
    body = {"model": card.id, "prompt": text, "max_tokens": 1}
    async with (
        asyncio.timeout(ALL_S),
        aiohttp.ClientSession(raise_for_status=True) as http,
        http.post(f"{url}/v1/completions", json=body) as answer,
    ):
        told = await answer.json()
    assert told["usage"]["prompt_tokens"] == counter_for(card).count_text(text)


def part(kind, size, **how):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, kind, **how)
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def with_images(dice):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn, which nobody makes
    images = [part(kind, size, **how) for size in SIZES for kind, how in KINDS[: 1 + dice.randrange(len(KINDS))]]
    for image in [*images, part("jpeg", (300, 100), exif=turned)]:
        words = {"type": "text", "text": "What is this?"}
        yield {"messages": [user(dice.choice([[words, image], [image, words], [image], [image, words, images[0]]]))]}
    begun = [user([images[0]]), {"role": "assistant", "content": "<s>It is"}]
    yield from ({"messages": begun, "continue_final_message": goes_on} for goes_on in (True, False))


async def test_images_count_the_same(served):
    if served[0] is TEXT_ONLY:
        pytest.skip("reads text only")
    assert await differences(served, with_images(random.Random(11))) == []
