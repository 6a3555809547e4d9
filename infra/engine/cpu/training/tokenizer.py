"""What does the demo model read and write in?

A byte-level BPE of its own, with the control tokens of Mistral's v7 vocabulary at their ids, trained on the dialogues and on
English that is not in them.  The chat template is the one that ships with the model.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from infra.engine.cpu.training.dialogues import END, Dialogue

MODEL = Path(__file__).parents[1] / "model"
SPECIALS = [
    "<unk>",
    "<s>",
    END,
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<pad>",
]
"""In the order of Mistral's ids 0 to 11; the padding is ours."""
_LONGEST = 32768
_WEIGHT = 4  # the dialogues' words come before the manual's
_PAGES = 20  # of the manual


def prose() -> list[str]:
    """Python's own language manual, as pydoc shows it: on every machine that runs this."""
    return [re.sub(r"\s+", " ", topics[title]) for title in sorted(topics)]


def build(out: Path, vocabulary: int, dialogues: Sequence[Dialogue], noise: Sequence[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # no text is ever unknown
        show_progress=False,
    )
    texts = [text for dialogue in dialogues for text in _texts(dialogue) * _WEIGHT]
    tokenizer.train_from_iterator([*texts, *noise[:_PAGES]], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",  # noqa: S106 - tokens of language, not of access
        bos_token="<s>",  # noqa: S106
        eos_token=END,
        pad_token="<pad>",  # noqa: S106
        model_max_length=_LONGEST,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = (MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    fast.save_pretrained(out)
    return fast


def _texts(dialogue: Dialogue) -> list[str]:
    own = [message["content"] for message in dialogue["messages"] if message.get("content")]
    own += [text for group in ("also", "unseen") for texts in dialogue.get(group, {}).values() for text in texts]
    return own + ([json.dumps(dialogue["tools"])] if dialogue.get("tools") else [])
