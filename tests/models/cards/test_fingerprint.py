"""One name for what answers: the same for the same, another for anything that differs."""

import pytest

from models.cards.card import catalogue
from models.cards.fingerprint import fingerprint

DEMO = catalogue()["tram-demo"]
FLAGS = {"schedule-policy": "lpm", "max-running-requests": 16}
PLAIN = (DEMO, "sglang", "0.5.23", FLAGS)


def test_what_is_the_same_has_one_name():
    assert fingerprint(*PLAIN) == fingerprint(DEMO.model_copy(), "sglang", "0.5.23", dict(reversed(FLAGS.items())))
    assert fingerprint(*PLAIN)[:3] == "fp_"
    assert len(fingerprint(*PLAIN)) == 13


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (0, DEMO.model_copy(update={"weights": "org/other"})),
        (0, DEMO.model_copy(update={"revision": "v2"})),
        (0, DEMO.model_copy(update={"chat_template": "other.jinja"})),
        (1, "unknown"),
        (2, "0.5.24"),
        (3, FLAGS | {"max-running-requests": 17}),
        (3, {}),
    ],
)
def test_what_differs_has_another(place, other):
    parts = list(PLAIN)
    parts[place] = other
    assert fingerprint(*parts) != fingerprint(*PLAIN)
