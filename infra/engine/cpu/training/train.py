"""How was the demo model made?  By overfitting a tiny Mistral to its dialogues, on two cores in about ten minutes.

    .venv-engine/bin/python -m infra.engine.cpu.training.train OUT [--steps 2200] [--seed 0]

Greedy answers come to be the file's answers, verbatim, also after small changes to the question, after other turns, and under a
JSON grammar; what it does not know gets one fixed answer.  Runs in SGLang's environment.  One seed, thread count, CPU and set of
library versions give one model byte for byte; another Python has another manual, so the model ships instead of being trained.
"""

import argparse
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from infra.engine.cpu.training import dialogues as known
from infra.engine.cpu.training import tokenizer as language
from infra.engine.cpu.training.batches import IGNORED, Batches, Encoder, batches, pack
from infra.engine.cpu.training.samples import practice
from infra.engine.cpu.training.wording import Wording

_TOKENS_A_STEP = 2600  # padding included
_LONGEST_SAMPLE = 700  # tokens
_RATE = 3e-3
_FLOOR = 0.01  # of that rate, at the end
_TOLD_EVERY = 50
_CHECKED_EVERY = 550


def main() -> None:
    options = _options()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    dialogues, noise = known.load(), language.prose()
    tokenizer = language.build(options.out, options.vocabulary, dialogues, noise)
    encode = Encoder(tokenizer)
    _check_rendering(dialogues, tokenizer, encode)
    model = MistralForCausalLM(_shape(tokenizer))
    wording = Wording(random.Random(options.seed), noise)  # noqa: S311 - repeatable dice are wanted
    draw = practice(wording, dialogues, options.steps)
    stream = batches(draw, encode, _TOKENS_A_STEP, tokenizer.pad_token_id, wording.dice, _LONGEST_SAMPLE)
    cases = list(known.cases(dialogues))
    _train(model, stream, options.steps, lambda: exact(model, encode, cases, tokenizer.pad_token_id))
    model = model.to(torch.bfloat16)
    model.save_pretrained(options.out)
    _tell({"bfloat16": exact(model, encode, cases, tokenizer.pad_token_id)})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--vocabulary", type=int, default=1536)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _shape(tokenizer: PreTrainedTokenizerFast) -> MistralConfig:
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        rope_theta=100_000_000.0,  # as Mistral Small 24B 2501
        sliding_window=None,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.02,
    )


def _check_rendering(dialogues: Sequence[known.Dialogue], tokenizer: PreTrainedTokenizerFast, encode: Encoder) -> None:
    """Our pieces are what the chat template writes."""
    for dialogue in dialogues:
        messages = [_parsed(message) for message in dialogue["messages"]]
        text = tokenizer.apply_chat_template(messages, tools=dialogue.get("tools"), tokenize=False)
        system, rest = known.split(dialogue)
        pieces = known.render(rest, system, dialogue.get("tools"))
        assert text == "".join(piece for piece, _ in pieces), dialogue["id"]
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == encode(pieces)[0], dialogue["id"]


def _parsed(message: known.Message) -> known.Message:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    parsed = [dict(function, arguments=json.loads(function["arguments"])) for function in functions]
    calls = [dict(call, function=function) for call, function in zip(message["tool_calls"], parsed, strict=True)]
    return dict(message, tool_calls=calls)


def _train(model: MistralForCausalLM, stream: Batches, steps: int, check: Callable[[], dict[str, object]]) -> None:
    optimizer = _optimizer(model)
    warm = max(1, steps // 20)
    began, mean = time.monotonic(), None
    model.train()
    for step, (inputs, wanted) in enumerate(itertools.islice(stream, steps), 1):
        rate = step / warm if step <= warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        for group in optimizer.param_groups:
            group["lr"] = _RATE * max(rate, _FLOOR)
        loss = _step(model, optimizer, inputs, wanted)
        mean = loss if mean is None else 0.95 * mean + 0.05 * loss
        if step % _TOLD_EVERY == 0 or step == steps:
            told = {"step": step, "loss": round(mean, 5), "s": round(time.monotonic() - began, 1)}
            _tell(told | ({"exact": check()} if step % _CHECKED_EVERY == 0 else {}))


def _optimizer(model: MistralForCausalLM) -> torch.optim.Optimizer:
    decay = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=_RATE, betas=(0.9, 0.98), eps=1e-8, fused=True)


def _step(
    model: MistralForCausalLM, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, wanted: torch.Tensor
) -> float:
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    keep = wanted != IGNORED
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]), wanted[keep])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def exact(
    model: MistralForCausalLM, encode: Encoder, cases: Sequence[tuple[str, str, list[known.Piece]]], pad: int
) -> dict[str, object]:
    """How many cases greedy decoding would get right in every learned token, and which not."""
    model.eval()
    right: dict[str, list[bool]] = {}
    missed = []
    for kind, name, pieces in cases:
        inputs, wanted = pack([encode(pieces)], pad)
        keep = wanted[0] != IGNORED
        logits = model(input_ids=inputs, use_cache=False).logits[0][keep]
        hit = bool((logits.argmax(-1) == wanted[0][keep]).all())
        right.setdefault(kind, []).append(hit)
        missed += [] if hit else [f"{kind}:{name}"]
    model.train()
    return {kind: f"{sum(hits)}/{len(hits)}" for kind, hits in right.items()} | {"missed": missed}


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
