"""What is held bounds what it costs, models are allowed under any name, and spans read as OpenAI's."""

from types import SimpleNamespace

import pytest

from models.cards.card import catalogue
from models.limits import Demand, Limits, cost_micros, demand, month_of, settlement, span
from tests.models.conftest import said

DEMO = catalogue()["tram-demo"]
LARGE = catalogue()["mistral-small-24b-instruct-2501-awq"]
WHOLE = DEMO.context_tokens


@pytest.mark.parametrize(
    ("prompt", "completion", "micros"),
    [(0, 0, 0), (1, 0, 0), (2, 0, 1), (0, 1, 1), (10, 5, 6), (1_000_000, 0, 350_000), (0, 1_000_000, 550_000)],
)
def test_a_job_costs_what_its_card_says_rounded_once(prompt, completion, micros):
    assert cost_micros("tram-demo", prompt, completion) == micros


def test_a_model_without_a_card_costs_nothing():
    assert cost_micros("somebody-elses", 1000, 1000) == 0
    assert demand("j", None, [said("hello")], {}).micros == 0


@pytest.mark.parametrize(
    "parameters", [{}, {"max_completion_tokens": 7}, {"max_tokens": 7, "n": 3}, {"n": 16}, {"max_tokens": WHOLE}]
)
@pytest.mark.parametrize("text", ["", "hello", "é" * 5000, "a" * 100_000, '"\\\n' * 50])
def test_what_is_held_is_never_less_than_what_it_costs(parameters, text):
    """A prompt has at most a token a byte and what the template adds, and with its answer fits the context."""
    told = demand("j", DEMO, [said(text)], parameters)
    answer = parameters.get("max_completion_tokens") or parameters.get("max_tokens") or WHOLE
    worst_prompt = min(WHOLE, len(text.encode()) + 1000)
    worst_answer = min(answer, WHOLE) * (parameters.get("n") or 1)
    assert told.micros >= cost_micros(DEMO.id, worst_prompt, worst_answer)


def test_a_known_length_holds_less():
    short = demand("j", DEMO, [said("hello")], {"max_completion_tokens": 5})
    assert short.micros < demand("j", DEMO, [said("hello")], {}).micros / 4
    assert short == Demand("j", short.tokens, short.micros)
    assert short.tokens < 30


def test_tools_and_images_are_counted_and_an_images_bytes_are_not():
    plain = demand("j", LARGE, [said("hello")], {})
    tools = demand("j", LARGE, [said("hello")], {"tools": [{"description": "x" * 3000}]})
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 500_000}}
    seen = demand("j", LARGE, [{"role": "user", "content": [{"type": "text", "text": "hello"}, picture]}], {})
    assert tools.tokens - plain.tokens >= 1000
    assert 4000 < seen.tokens - plain.tokens < 5000
    assert 4000 * 0.35 < seen.micros - plain.micros < 5000 * 0.35


@pytest.mark.parametrize(
    ("allowed", "yes"),
    [
        (None, True),
        (("tram-demo",), True),
        (("mine",), True),
        (("other",), False),
        (("mistralai/Mistral-Small-24B-Instruct",), False),
        ((), False),
    ],
)
def test_a_model_is_allowed_by_any_of_its_names(allowed, yes):
    assert Limits("a", models=allowed).allows("tram-demo", "mine") is yes


def test_an_alias_allows_its_card():
    assert Limits("a", models=("mistralai/Mistral-Small-24B-Instruct",)).allows(LARGE.id, LARGE.id)


@pytest.mark.parametrize(
    ("limits", "counted", "money"),
    [
        (Limits("a"), False, False),
        (Limits("a", models=("x",)), False, False),
        (Limits("a", parallel=1), True, False),
        (Limits("a", month_cap_micros=0), True, True),
        (Limits("a", credit_micros=0), True, True),
    ],
)
def test_only_what_must_be_counted_is(limits, counted, money):
    assert (limits.counted, limits.money) == (counted, money)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        *((-1, "0ms"), (0, "0ms"), (20.2, "20ms"), (999.4, "999ms"), (1000, "1s"), (1001, "2s"), (59_999, "1m0s")),
        *((360_000, "6m0s"), (3_600_000, "1h0m0s"), (3_661_000, "1h1m1s")),
    ],
)
def test_a_span_reads_as_openais(milliseconds, text):
    assert span(milliseconds) == text


def test_months_are_utc():
    assert [month_of(at) for at in (1_796_083_199_999, 1_796_083_200_000)] == ["2026-11", "2026-12"]


def test_what_was_not_held_is_not_settled():
    job = SimpleNamespace(id="j", account_id="a", parent_id="p", card="tram-demo", held_micros=None)
    used = SimpleNamespace(at_ms=1_796_083_200_000, prompt_tokens=10, completion_tokens=5)
    assert settlement(job, used) is None
    job.held_micros = 0
    told = settlement(job, used)
    assert (told.accounts, told.tokens, told.micros, told.month) == (("a", "p"), 15, 6, "2026-12")
    job.parent_id = None
    assert settlement(job, used).accounts == ("a",)
