"""Is the tokenizer made from mistral-common's vocabulary the one that the checkpoints of the 24B cards carry?

The published file is known by its hash; what it does to text is compared with mistral-common's own encoder where both cut text
alike.  `TRAM_TEST_CHECKPOINTS` names folders of real checkpoints, separated by colons, whose `tokenizer.json` is then compared.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Tokenizer

from infra.engine import mistral_tokenizer
from infra.engine.mistral_tokenizer import tekken
from models.cards.card import catalogue
from tests.infra.engine.awkward import Awkward

PUBLISHED_SHA256 = "b76085f9923309d873994d444989f7eb6ec074b06f25b58f1e8d7b7741070949"
"""Of `tokenizer.json` in Mistral-Small-24B-Instruct-2501 as of January 2025, 17,078,037 bytes."""
CHECKPOINTS = [Path(folder) for folder in os.environ.get("TRAM_TEST_CHECKPOINTS", "").split(":") if folder]
GROWS_MOST_KB = 60_000  # measured: 42,000
LOADS = """
import sys
from infra.engine import mistral_tokenizer

def resident_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

before = resident_kb()
mistral_tokenizer.tekken()
print(resident_kb() - before, sorted({"mistral_common", "numpy", "tiktoken"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def referee():
    return Tekkenizer.from_file(mistral_tokenizer._vocabulary())


def ids(text):
    return tekken().encode(text, add_special_tokens=False).ids


def test_it_is_the_published_file():
    written = tekken().to_str(pretty=True).encode()
    assert hashlib.sha256(written).hexdigest() == PUBLISHED_SHA256


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over 12 lazy dogs.",
        "Grüße aus Köln: 日本語 🎉",
        "def f(x):\n    return [x, 1.5]\n",
        "  a\t\n\n b",
    ],
)
def test_ids_are_mistral_commons_where_both_cut_alike(referee, text):
    assert ids(text) == referee.encode(text, bos=False, eos=False)


def test_the_published_file_cuts_some_words_otherwise(referee):
    """At Hindi's vowel signs, for one: SGLang reads what the file says, so it is counted so."""
    assert ids("हिन्दी") != referee.encode("हिन्दी", bos=False, eos=False)


def test_control_tokens_have_mistral_commons_ids(referee):
    controls = [*mistral_tokenizer._CONTROLS, "<SPECIAL_20>", "<SPECIAL_999>"]
    assert [ids(name) for name in controls] == [[referee.get_special_token(name)] for name in controls]


def test_loading_takes_little_memory_and_nothing_of_mistral_common():
    run = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, timeout=60, check=True)
    grown_kb, imported = run.stdout.split(maxsplit=1)
    assert imported.strip() == "[]"
    assert 0 < int(grown_kb) < GROWS_MOST_KB


def test_too_few_pieces_are_no_vocabulary(tmp_path):
    short = tmp_path / "tekken.json"
    short.write_text(json.dumps({"vocab": [{"rank": 0, "token_bytes": "AA=="}]}))
    with pytest.raises(ValueError, match="holds 1 pieces"):
        mistral_tokenizer._pieces(short)


@pytest.mark.parametrize("card", ["mistral-small-24b-instruct-2501-awq", "mistral-small-3.1-24b-instruct-2503"])
def test_the_cards_templates_are_tekkens(card):
    assert catalogue()[card].chat_template == "mistral-v7-tekken.jinja"


@pytest.mark.skipif(not CHECKPOINTS, reason="TRAM_TEST_CHECKPOINTS names no checkpoint's folder")
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_a_real_checkpoint_encodes_the_same(folder):
    theirs, awkward = Tokenizer.from_file(str(folder / "tokenizer.json")), Awkward(seed=3)
    texts = [json.dumps(awkward.request(), ensure_ascii=False) for _ in range(300)]
    assert [ids(text) for text in texts] == [theirs.encode(text, add_special_tokens=False).ids for text in texts]
