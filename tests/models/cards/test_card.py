"""Is every packaged card whole, and does each name that callers write lead to one card?"""

import tomllib
from datetime import date
from importlib.resources import files

import pytest
from pydantic import ValidationError

from models.cards.card import PACKAGED, Card, catalogue, named, resolve, stand_ins, waiting_beside
from models.cards.gpus import Gpu
from models.errors import InvalidRequest

CARDS = list(catalogue().values())
BY_ID = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
AWQ = catalogue()["mistral-small-24b-instruct-2501-awq"]
VISION = catalogue()["mistral-small-3.1-24b-instruct-2503"]
DEMO = tomllib.loads((files("models.cards") / "tram-demo.toml").read_text(encoding="utf-8"))


def test_every_file_is_a_card_named_after_its_id():
    names = {
        entry.name.removesuffix(".toml") for entry in files("models.cards").iterdir() if entry.name.endswith(".toml")
    }
    assert names == set(catalogue())


def test_no_two_cards_answer_to_one_name():
    names = [name.replace("/", "-") for card in CARDS for name in {card.id, *card.aliases}]
    assert len(set(names) | {card.id for card in CARDS}) == len({*names})
    assert all(resolve(name) is card for card in CARDS for name in (card.id, *card.aliases))


@pytest.mark.parametrize(
    "name",
    [
        "mistral-small-24b-instruct-2501-awq",
        "casperhansen/mistral-small-24b-instruct-2501-awq",
        "casperhansen-mistral-small-24b-instruct-2501-awq",
        "mistralai/Mistral-Small-24B-Instruct",
    ],
)
def test_what_azions_and_ionos_clients_write_means_mistral_small_3(name):
    assert resolve(name) is AWQ
    assert named(name) is AWQ


@pytest.mark.parametrize(
    "name",
    [
        "mistral-small-3.1-24b-instruct-2503",
        "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
        "mistralai/mistral-small-3.1-24b-instruct",
        "mistralai-mistral-small-3.1-24b-instruct",
        "@cf/mistralai/mistral-small-3.1-24b-instruct",
        "@cf-mistralai-mistral-small-3.1-24b-instruct",
    ],
)
def test_what_cloudflares_and_aigateways_clients_write_means_mistral_small_3_1(name):
    assert resolve(name) is VISION


@pytest.mark.parametrize(
    ("name", "stand_in"),
    [
        ("mistralai/mistral-small-3.1-24b-instruct", AWQ),
        ("@cf/mistralai/mistral-small-3.1-24b-instruct", AWQ),
        ("@cf-mistralai-mistral-small-3.1-24b-instruct", AWQ),
        ("mistralai/Mistral-Small-24B-Instruct", VISION),
        ("casperhansen-mistral-small-24b-instruct-2501-awq", VISION),
    ],
)
def test_the_two_24bs_stand_in_for_each_other(name, stand_in):
    assert stand_ins(name) == (stand_in,)
    assert resolve(name) is not stand_in


@pytest.mark.parametrize("name", ["tram-demo", AWQ.id, VISION.id, "mistralai/Mistral-Small-3.1-24B-Instruct-2503", "x"])
def test_nobody_stands_in_for_a_name_that_means_one_model_exactly(name):
    assert stand_ins(name) == ()


def test_a_card_stands_in_for_names_of_other_cards_only():
    for card in CARDS:
        owners = [resolve(name) for name in card.stands_in_for]
        assert None not in owners
        assert card not in owners


@pytest.mark.parametrize("name", ["", "gpt-4o", "tram", "tram-demo ", "casperhansen"])
def test_other_names_mean_no_card(name):
    assert resolve(name) is None
    with pytest.raises(InvalidRequest, match=r"no card is called .*; there are .*tram-demo") as refused:
        named(name)
    assert refused.value.param == "model"


@BY_ID
def test_a_card_can_be_served_somewhere(card):
    assert card.devices
    for device in card.devices:
        running = card.flags_on(device)["max-running-requests"]
        assert running < card.concurrency <= card.concurrency_on(device)
        assert 1 <= card.concurrency - running <= 128


@BY_ID
def test_dates_and_successors_make_sense(card):
    assert date(2025, 1, 1) <= card.launched
    assert card.retires is None or card.retires > card.launched
    assert card.successor is None or card.successor in catalogue()


@BY_ID
def test_prices_have_at_most_six_places(card):
    assert all(price >= 0 and price == round(price, 6) for price in (card.prices.prompt, card.prices.completion))


def test_the_demo_says_it_is_a_toy_and_the_24b_does_not():
    demo, real = catalogue()["tram-demo"], catalogue()["mistral-small-24b-instruct-2501-awq"]
    assert demo.toy
    assert demo.weights == PACKAGED
    assert "toy" in demo.description.lower()
    assert not real.toy
    assert real.context_tokens == 32768


def test_flags_of_the_device_come_on_top_of_the_common_ones():
    card = Card.model_validate({**DEMO, "flags": {"a": 1, "b": True, "cpu": {"a": 2, "max-running-requests": 4}}})
    assert card.flags_on("cpu") == {"a": 2, "b": True, "max-running-requests": 4}
    assert card.devices == ("cpu",)
    with pytest.raises(ValueError, match="not served on cuda"):
        card.flags_on("cuda")


def test_flags_of_the_class_of_gpu_come_on_top_of_all():
    gpus = {"cuda": {"a": 2, "max-running-requests": 8}, "gpu": {"h200": {"a": 3, "max-running-requests": 200}}}
    card = Card.model_validate({**DEMO, "flags": {"a": 1, **gpus}})
    assert card.devices == ("cuda",)
    assert card.flags_on("cuda")["a"] == card.flags_on("cuda", Gpu.L40S)["a"] == 2
    assert card.flags_on("cuda", Gpu.H200) == {"a": 3, "max-running-requests": 200}
    assert card.flags.common == {"a": 1}
    assert card.concurrency == card.concurrency_on("cuda") == card.concurrency_on("cuda", Gpu.L40S) == 16
    assert card.concurrency_on("cuda", Gpu.H200) == 250


def test_on_several_devices_concurrency_is_what_fits_the_smallest():
    devices = {"cpu": {"max-running-requests": 4}, "cuda": {"max-running-requests": 32}}
    card = Card.model_validate({**DEMO, "flags": devices})
    assert (card.concurrency, card.concurrency_on("cpu"), card.concurrency_on("cuda")) == (12, 12, 40)


def test_concurrency_can_be_said_where_no_flags_imply_it():
    card = Card.model_validate({**DEMO, "flags": {}, "concurrency": 7})
    assert (card.concurrency, card.concurrency_on("cpu"), card.devices) == (7, 7, ())


@pytest.mark.parametrize(("running", "waiting"), [(1, 8), (16, 8), (32, 8), (80, 20), (128, 32), (4000, 128)])
def test_the_engine_sees_enough_waiting_to_choose_from_and_no_more_than_it_looks_at(running, waiting):
    assert waiting_beside(running) == waiting


def test_the_default_stays_the_small_one():
    assert AWQ.modalities == ("text",)
    assert AWQ.successor == VISION.id
    assert set(VISION.modalities) == {"text", "image"}
    assert "images" in VISION.capabilities
    assert (AWQ.context_tokens, VISION.context_tokens) == (32_768, 131_072)


@pytest.mark.parametrize(
    "fault",
    [
        {"prize": 1},
        {"id": "Not A Queue Name"},
        {"max_output_tokens": DEMO["context_tokens"] + 1},
        {"retires": DEMO["launched"]},
        {"modalities": ["smell"]},
        {"prices": {"prompt": -1, "completion": 0}},
        {"sampling": {"temperature": 6, "top_p": 1}},
        {"flags": {"cpu": {"list": [1]}}},
        {"concurrency": 0},
        {"flags": {}},
        {"flags": {"cpu": {"max-running-requests": 1}, "gpu": {"h200": {}}}},
        {"flags": {"cpu": {"max-running-requests": 1}, "cuda": {}, "gpu": {"h2000": {}}}},
        {"capabilities": ["images"]},
        {"modalities": ["text", "image"]},
        {"architecture": {"layers": 0, "kv_heads": 2, "head_dim": 32, "weights_bytes": 1}},
    ],
    ids=str,
)
def test_a_faulty_card_is_refused(fault):
    with pytest.raises(ValidationError):
        Card.model_validate({**DEMO, **fault})


def test_a_card_is_frozen():
    with pytest.raises(ValidationError):
        CARDS[0].id = "other"
