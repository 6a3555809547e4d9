"""Is every packaged card whole, and does each name that callers write lead to one card?"""

import tomllib
from datetime import date
from importlib.resources import files

import pytest
from pydantic import ValidationError

from models.cards.card import PACKAGED, Card, catalogue, resolve

CARDS = list(catalogue().values())
BY_ID = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
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
        "mistralai/mistral-small-3.1-24b-instruct",
        "@cf/mistralai/mistral-small-3.1-24b-instruct",
        "@cf-mistralai-mistral-small-3.1-24b-instruct",
    ],
)
def test_what_the_providers_clients_write_means_the_24b(name):
    assert resolve(name).id == "mistral-small-24b-instruct-2501-awq"


@pytest.mark.parametrize("name", ["", "gpt-4o", "tram", "tram-demo ", "casperhansen"])
def test_other_names_mean_no_card(name):
    assert resolve(name) is None


@BY_ID
def test_a_card_can_be_served_somewhere(card):
    assert card.devices
    assert all(card.flags_on(device)["max-running-requests"] < card.concurrency for device in card.devices)


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
    card = Card.model_validate({**DEMO, "flags": {"a": 1, "b": True, "cpu": {"a": 2}}})
    assert card.flags_on("cpu") == {"a": 2, "b": True}
    assert card.devices == ("cpu",)
    with pytest.raises(ValueError, match="not served on cuda"):
        card.flags_on("cuda")


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
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_faulty_card_is_refused(fault):
    with pytest.raises(ValidationError):
        Card.model_validate({**DEMO, **fault})


def test_a_card_is_frozen():
    with pytest.raises(ValidationError):
        CARDS[0].id = "other"
