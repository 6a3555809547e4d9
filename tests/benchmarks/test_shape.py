"""Is the folder that stands in for the 24B what an engine reads, and do its figures agree with the card's?"""

import json

import pytest
from tokenizers import Tokenizer

from benchmarks import bounds, shape
from benchmarks.gpu import CARD
from models.cards.gpus import Gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shape.write(tmp_path_factory.mktemp("shape"), shape.SMALL)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_the_whole_shape_is_the_card_s():
    whole, told = shape.MISTRAL_SMALL_24B, CARD.architecture
    assert (whole.layers, whole.kv_heads, whole.head_dim) == (told.layers, told.kv_heads, told.head_dim)
    assert whole.weight_bytes == told.weights_bytes
    assert whole.kv_bytes == 160 * 1024
    assert whole.context_tokens == CARD.context_tokens
    assert 23.5e9 < whole.linear + 2 * whole.head < 23.6e9, "the 24 billion of its name"


def test_every_id_of_the_vocabulary_is_seen_in_a_stream(tokenizer):
    controls = {tokenizer.token_to_id(name) for name in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")}
    assert tokenizer.get_vocab_size() == shape.SMALL.vocabulary
    assert controls == {0, 1, 2, 3, 4}, "where Mistral has them"
    rare = shape.SMALL.vocabulary - 1
    assert tokenizer.decode([rare]).strip()
    assert rare not in tokenizer.encode(tokenizer.decode([rare])).ids, "text is never encoded with a made-up word"


def test_text_comes_back_as_it_went_in(tokenizer):
    text = "def answer(self) -> str:\n    return 'é'"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_configuration_says_awq_and_carries_a_template(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "awq"
    assert config["num_hidden_layers"] == shape.SMALL.layers
    assert "[INST]" in json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]


def test_a_step_is_bound_by_memory_first_and_by_arithmetic_in_the_end():
    whole = shape.MISTRAL_SMALL_24B
    h200, a100 = bounds.SPEEDS[Gpu.H200], bounds.SPEEDS[Gpu.A100]
    assert bounds.step_s(whole, h200, 1) == pytest.approx(whole.read_bytes / h200.bytes_per_s, rel=0.05)
    without_cache = shape.Shape(40, 5120, 32768, 32, 0, 128, 131_072, 32_768)
    assert bounds.step_s(without_cache, a100, 256) == pytest.approx(256 * without_cache.flop / a100.flop_per_s)


def test_every_class_of_gpu_has_its_bounds(capsys):
    bounds.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(Gpu)
    assert len({line.count("|") for line in lines}) == 1
