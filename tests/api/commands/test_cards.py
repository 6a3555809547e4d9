"""Does `tram cards` tell what the cards say?"""

import json

import pytest

from models.cards.budget import budget
from models.cards.card import catalogue
from models.cards.gpus import CLASSES, Gpu

CARDS = list(catalogue().values())


def test_the_list_has_each_card(tram):
    done = tram("cards")
    assert (done.returncode, done.stderr) == (0, "")
    for card in CARDS:
        [line] = [line for line in done.stdout.splitlines() if card.id in line]
        assert f"{card.context_tokens:,}" in line
        assert str(card.launched) in line
        assert all(modality in line for modality in card.modalities)
        assert ("toy" in line) is card.toy


def test_the_list_fits_a_narrow_terminal(tram):
    lines = tram("cards", COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(card.id) for line in lines) for card in CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_one_card_is_explained(tram, card):
    done = tram("cards", card.id, COLUMNS="10000")
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    for said in (*card.aliases, *card.capabilities, card.weights, card.description.split(".")[0]):
        assert said in told
    assert str(card.prices.prompt) in told
    if "cuda" in card.devices:
        for gpu, of in CLASSES.items():
            held = budget(card, "cuda", gpu)
            assert of.title in told
            assert f"{held.kv_tokens:,} tokens" in told
            assert f"a worker holds {held.concurrency} jobs" in told


def test_any_name_of_a_card_will_do(tram):
    name = "@cf/mistralai/mistral-small-3.1-24b-instruct"
    assert tram("cards", name).stdout == tram("cards", "mistral-small-3.1-24b-instruct-2503").stdout != ""


def test_programs_get_json(tram):
    every = json.loads(tram("cards", "--json").stdout)
    assert [card["id"] for card in every] == list(catalogue())
    one = json.loads(tram("cards", "mistralai/Mistral-Small-24B-Instruct", "--json").stdout)
    assert one == every[0]
    held = budget(CARDS[0], "cuda", Gpu.H200)
    assert one["served_on"]["h200"]["budget"]["kv_tokens"] == held.kv_tokens
    assert one["served_on"]["h200"]["flags"] == CARDS[0].flags_on("cuda", Gpu.H200)
    assert set(one["served_on"]) == set(Gpu)
    assert set(every[-1]["served_on"]) == {"cpu"}


def test_a_name_of_no_card_is_one_line(tram):
    done = tram("cards", "gpt-[4o]", COLUMNS="40")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tram: no card is called 'gpt-[4o]'; there are {', '.join(catalogue())}\n"
