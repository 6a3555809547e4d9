"""How do samples become tensors?  Encoded piece by piece, gathered with others of like length, padded on the right."""

import functools
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from infra.engine.cpu.training.dialogues import Learned, Piece

IGNORED = -100
"""A token that is not to be learned, as PyTorch's cross entropy marks it."""
_POOL = 512  # samples from which batches of like length are made

Sample = tuple[list[int], list[int]]
"""Tokens, and the same with `IGNORED` in the places not to be learned."""
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


class Encoder:
    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        backend = tokenizer.backend_tokenizer
        self._encode = functools.lru_cache(maxsize=200_000)(lambda text: backend.encode(text, add_special_tokens=False))

    def __call__(self, pieces: Sequence[Piece]) -> Sample:
        tokens: list[int] = []
        wanted: list[int] = []
        for text, learn in pieces:
            encoding = self._encode(text)
            tokens += encoding.ids
            wanted += _learned(text, encoding, learn)
        return tokens, wanted


def _learned(text: str, encoding: Encoding, learn: Learned) -> list[int]:
    if learn is True:
        return encoding.ids
    if learn is False:
        return [IGNORED] * len(encoding.ids)
    forced = [(text.index(part), text.index(part) + len(part)) for part in learn]
    starts = [start for start, _ in encoding.offsets]
    given = [any(begin <= start < end for begin, end in forced) for start in starts]
    return [IGNORED if off else token for off, token in zip(given, encoding.ids, strict=True)]


def pack(samples: Sequence[Sample], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded on the right, so that a causal model needs no mask; what is wanted lies one place ahead."""
    width = max(len(tokens) for tokens, _ in samples)
    inputs = torch.tensor([tokens + [pad] * (width - len(tokens)) for tokens, _ in samples])
    wanted = torch.tensor([labels[1:] + [IGNORED] * (width - len(labels) + 1) for _, labels in samples])
    return inputs, wanted


def batches(
    draw: Callable[[], list[Piece]], encode: Encoder, budget: int, pad: int, dice: random.Random, longest: int
) -> Batches:
    """Endless batches of about `budget` tokens."""
    while True:
        samples = [encode(draw()) for _ in range(_POOL)]
        groups = list(_groups(sorted((s for s in samples if len(s[0]) <= longest), key=lambda s: len(s[0])), budget))
        dice.shuffle(groups)
        for group in groups:
            yield pack(group, pad)


def _groups(samples: Sequence[Sample], budget: int) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for sample in samples:
        if group and (len(group) + 1) * len(sample[0]) > budget:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group
