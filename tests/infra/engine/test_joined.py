"""What is asked of an engine that is already running: which models it has, and what it is."""

import pytest

from infra.engine.joined import ASSUMED_CONTEXT_TOKENS, CONCURRENCY, Software, card_of, software
from infra.ports import free_port
from models.errors import Unavailable
from models.tables.jobs import Job
from tests.fakes.engine import FakeEngine


async def test_a_card_is_made_from_what_it_lists():
    async with FakeEngine(model="Org/Tiny_7B", context_length=4096) as engine:
        for url in (engine.url, f"{engine.url}/v1", f"{engine.url}/"):
            card = await card_of(url)
            assert (card.id, card.weights, card.aliases) == ("org-tiny-7b", "Org/Tiny_7B", ("Org/Tiny_7B",))
            assert (card.context_tokens, card.concurrency) == (4096, CONCURRENCY)


async def test_a_path_as_a_name_is_known_by_its_end():
    path = f"/mnt/{'deep/' * 30}Mistral_24B"
    async with FakeEngine(model=path) as engine:
        card = await card_of(engine.url)
    assert (card.weights, card.aliases) == (path, (path,))
    assert card.id.endswith("-deep-mistral-24b")
    assert len(card.id) <= Job.card.type.length


async def test_a_context_that_is_not_told_is_assumed():
    async with FakeEngine(context_length=0) as engine:
        assert (await card_of(engine.url)).context_tokens == ASSUMED_CONTEXT_TOKENS


async def test_one_that_is_not_there_or_has_another_model_is_unavailable():
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(Unavailable, match="does not list its models"):
        await card_of(url)
    assert await software(url) is None
    async with FakeEngine(model="tiny") as engine:
        with pytest.raises(Unavailable, match="does not serve 'large'; it lists tiny"):
            await card_of(engine.url, "large")


async def test_one_that_keeps_silent_on_what_it_is_stays_unknown():
    async with FakeEngine() as engine:
        assert await software(engine.url) == Software()
        assert "regex" not in (await card_of(engine.url)).capabilities


@pytest.mark.engine
async def test_sglang_says_its_version(engine_url: str):
    told = await software(engine_url)
    assert (told.name, told.device) == ("sglang", "cpu")
    assert told.version.split(".")[0].isdecimal()
    assert (told.flags["attention-backend"], told.flags["enable-deterministic-inference"]) == ("torch_native", False)
    assert told.flags["dtype"] in {"auto", "bfloat16", "float16", "float32"}, "auto: as the weights have it"
    assert {"regex", "continue_final_message"} <= {*(await card_of(engine_url)).capabilities}
