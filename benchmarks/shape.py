"""What does an engine need to run the 24B's shape without its weights?  A folder with a configuration and a tokenizer.

SGLang fills the weights with random numbers (`--load-format dummy`): nothing is downloaded, memory, kernels and speed are the real
model's, and nothing it says means anything.  The tokenizer has an id for each of the vocabulary: Mistral's control tokens in their
places, a byte-level BPE learned from Python's own library, and a made-up word for each id left, so that every token shows in a stream.

Also the arithmetic of a shape: bytes of weights, bytes of a token's cache, operations of a token.
"""

import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

GROUP = 128
"""Weights that share a scale and a zero, in AWQ."""
_HALF_BYTES = 2
_LEARNED_SHARE = 8  # one id in so many is of the tokenizer's own; the others are only ever decoded
_CORPUS_CHARACTERS = 4_000_000
_SPECIALS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)
_BOS, _EOS = 1, 2
_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' -}}
{%- elif message['role'] == 'user' -%}{{- '[INST]' + message['content'] + '[/INST]' -}}
{%- else -%}{{- message['content'] + eos_token -}}
{%- endif -%}
{%- endfor -%}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_tokens: int

    @property
    def linear(self) -> int:
        """Weights that AWQ keeps in four bits."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.layers * self.hidden * (2 * queries + 2 * keys + 3 * self.intermediate)

    @property
    def head(self) -> int:
        """Weights of the output layer, and as many of the input's: both in 16 bits."""
        return self.vocabulary * self.hidden

    @property
    def weight_bytes(self) -> int:
        int4 = self.linear // 2 + self.linear * 5 // (2 * GROUP)  # a group: a scale of 16 bits, a zero of 4
        norms = (2 * self.layers + 1) * self.hidden
        return int4 + _HALF_BYTES * (2 * self.head + norms)

    @property
    def read_bytes(self) -> int:
        """Of weights, in each step: all but the input layer, of which a step takes a row a stream."""
        return self.weight_bytes - _HALF_BYTES * self.head

    @property
    def kv_bytes(self) -> int:
        """Of one token's keys and values in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head_dim * _HALF_BYTES

    @property
    def flop(self) -> int:
        """Of one token, attention left out."""
        return 2 * (self.linear + self.head)


MISTRAL_SMALL_24B = Shape(40, 5120, 32768, 32, 8, 128, 131_072, 32_768)
SMALL = Shape(2, 256, 512, 4, 2, 64, 8192, 8192)
"""For a machine without a GPU: the same road through the engine, in milliseconds a step."""

FLAGS = ("--load-format", "dummy")
FLAGS_ON_CPU = (*FLAGS, "--quantization", "awq", "--dtype", "half")


def write(folder: Path, shape: Shape) -> Path:
    """Fills `folder` with what SGLang reads instead of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(shape.vocabulary).save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": _TEMPLATE}
    limits = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.context_tokens}
    _save(folder / "tokenizer_config.json", special | limits)
    _save(folder / "config.json", _config(shape))
    _save(folder / "generation_config.json", {"bos_token_id": _BOS, "eos_token_id": _EOS})
    return folder


def _save(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context_tokens,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100_000_000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "bos_token_id": _BOS,
        "eos_token_id": _EOS,
        "torch_dtype": "float16",
        "transformers_version": "5.12.1",  # without one, transformers warns of a flaw in older Mistral tokenizers
        "quantization_config": {
            "quant_method": "awq",
            "bits": 4,
            "group_size": GROUP,
            "zero_point": True,
            "version": "gemm",
            "modules_to_not_convert": None,
        },
    }


def _tokenizer(vocabulary: int) -> Tokenizer:
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary // _LEARNED_SHARE,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in _SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(_corpus(), trainer)
    written = json.loads(learned.to_str())
    words = written["model"]["vocab"]
    words |= {f"Ġw{number:06d}": number for number in range(len(words), vocabulary)}
    return Tokenizer.from_str(json.dumps(written))


def _corpus() -> Iterator[str]:
    """Sources of Python's own library, which are on every machine that runs this."""
    left = _CORPUS_CHARACTERS
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return
