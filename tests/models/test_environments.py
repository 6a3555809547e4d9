"""What made an answer has one name for one set of facts, is stored once, and tells in what it differs."""

from models import environments
from models.cards.card import catalogue
from models.environments import DETERMINISTIC, Engine, Known, differences, facts_of, template_digest
from models.tables.environments import Environment
from tests.models.conftest import NOW

DEMO = catalogue()["tram-demo"]
LARGE = catalogue()["mistral-small-24b-instruct-2501-awq"]
FLAGS = {"dtype": "float32", "enable-deterministic-inference": False, "quantization": None}
SGLANG = Engine("sglang", "0.5.23", FLAGS, "cpu", "EPYC")


def test_facts_say_what_and_how():
    facts = facts_of(DEMO, SGLANG, "0.1.0")
    assert facts == {
        "flags.dtype": "float32",
        "flags.quantization": None,
        "card": "tram-demo",
        "weights": "packaged",
        "revision": "main",
        "chat_template": None,
        "engine": "sglang",
        "engine_version": "0.5.23",
        "device": "cpu",
        "machine": "EPYC",
        DETERMINISTIC: False,
        "tram": "0.1.0",
    }


def test_an_engine_that_tells_nothing_is_not_taken_to_be_deterministic_nor_not():
    facts = facts_of(DEMO, Engine("unknown", "", {}), "0.1.0")
    assert (facts[DETERMINISTIC], facts["engine_version"], facts["machine"]) == (None, None, None)


def test_a_template_is_known_by_its_text():
    assert template_digest(LARGE.chat_template) != template_digest(None)
    assert len(template_digest(LARGE.chat_template)) == 32


def test_equal_facts_have_one_name_in_whatever_order():
    facts = facts_of(DEMO, SGLANG, "0.1.0")
    assert Known.of(facts).digest == Known.of(dict(reversed(facts.items()))).digest
    assert Known.of(facts).digest != Known.of(facts | {"tram": "0.2.0"}).digest
    assert len(Known.of(facts).digest) == 36


def test_differences_go_fact_by_fact_and_silence_is_null():
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": 4}) == [
        {"fact": "b", "recorded": 2, "replayed": 3},
        {"fact": "c", "recorded": 3, "replayed": None},
        {"fact": "d", "recorded": None, "replayed": 4},
    ]
    assert differences({"a": None}, {}) == []


def test_an_environment_is_stored_once(session):
    known = Known.of({"card": "a"})
    for at_ms in (NOW, NOW + 1):
        environments.note(session, known, at_ms)
    assert session.get(Environment, known.digest).created_ms == NOW
    found = environments.facts_by_digest(session, [known.digest, None, "env_unknown"])
    assert found == {known.digest: {"card": "a"}}
