"""How near is a text to another?  OpenAI's `text_similarity`, each metric from a kept library, from 0 (nothing) to 1 (the same).

- `fuzzy_match`: rapidfuzz' ratio over characters.
- `bleu`: sacrebleu's sentence BLEU (13a tokens, exponential smoothing) over 100.  `gleu`: nltk's sentence GLEU.
- `rouge_1` to `rouge_5`, `rouge_l`: rouge-score's F-measure with its tokens, stemmed.
- `meteor`: nltk's, with the exact and the stem stage; its third stage, synonyms, needs WordNet's data, which are not here.
- `cosine`: of the counts of the texts' words.  OpenAI embeds both with a model; none is served here, so meaning does not count.

Texts longer than `TEXT_CHARACTERS` are refused: some metrics need time in proportion to the product of both lengths.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from models.errors import TooLarge
from models.grading.grader import Grade, Grader, Replies, Spec, one_of, template_of
from models.grading.template import Namespace, render

TEXT_CHARACTERS = 200_000
"""More than an answer of 32,768 tokens has."""
_METEOR_PAIRS = 4_000_000
"""nltk compares every word with every word; so many take a second."""
_LONGEST_NGRAM = 5


class TextSimilarity(Grader):
    kind = "text_similarity"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._input, self._reference = template_of(spec, "input"), template_of(spec, "reference")
        self._metric = one_of(spec, "evaluation_metric", tuple(METRICS))

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:  # noqa: ARG002
        text, reference = render(self._input, namespace), render(self._reference, namespace)
        return self.scored(similarity(self._metric, text, reference))


def similarity(metric: str, text: str, reference: str) -> float:
    """0 to 1; two empty texts are the same.  Raises TooLarge."""
    if max(len(text), len(reference)) > TEXT_CHARACTERS:
        raise TooLarge(f"{metric} compares texts of at most {TEXT_CHARACTERS:,} characters")
    if not text.strip() or not reference.strip():
        return float(text.strip() == reference.strip())
    return min(1.0, max(0.0, float(METRICS[metric](text, reference))))


def _fuzzy(text: str, reference: str) -> float:
    from rapidfuzz import fuzz  # noqa: PLC0415

    return fuzz.ratio(text, reference) / 100


def _bleu(text: str, reference: str) -> float:
    from sacrebleu import sentence_bleu  # noqa: PLC0415 -- 0.3 s

    return sentence_bleu(text, [reference]).score / 100


def _gleu(text: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu  # type: ignore[import-untyped]  # noqa: PLC0415 -- 0.8 s

    return float(sentence_gleu([_words(reference)], _words(text)))


def _meteor(text: str, reference: str) -> float:
    from nltk.translate.meteor_score import single_meteor_score  # type: ignore[import-untyped]  # noqa: PLC0415

    left, right = _words(reference), _words(text)
    if len(left) * len(right) > _METEOR_PAIRS:
        raise TooLarge("meteor compares texts of at most 2,000 words each")
    return float(single_meteor_score(left, right, wordnet=_NoSynonyms()))


class _NoSynonyms:
    """In WordNet's place, whose data are not in nltk's wheel."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _cosine(text: str, reference: str) -> float:
    left, right = Counter(_words(text)), Counter(_words(reference))
    product = sum(count * right[word] for word, count in left.items())
    lengths = math.sqrt(sum(count**2 for count in left.values()) * sum(count**2 for count in right.values()))
    return product / lengths if lengths else 0.0


def _rouge(size: int) -> Callable[[str, str], float]:
    def measure(text: str, reference: str) -> float:
        scorer, _ = _rouge_parts()
        return float(scorer.score(reference, text)[f"rouge{size}"].fmeasure) if size else 0.0

    return measure


def _rouge_l(text: str, reference: str) -> float:
    """rouge-score's own table of every word with every word takes minutes for long texts; the longest common subsequence is the same."""
    from rapidfuzz.distance import LCSseq  # noqa: PLC0415

    _, tokenizer = _rouge_parts()
    left, right = tokenizer.tokenize(text), tokenizer.tokenize(reference)
    common = LCSseq.similarity(left, right)
    return 2 * common / (len(left) + len(right)) if common else 0.0


@lru_cache(maxsize=1)
def _rouge_parts() -> tuple[Any, Any]:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # noqa: PLC0415 -- 0.8 s
    from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]  # noqa: PLC0415

    tokenizer = DefaultTokenizer(use_stemmer=True)
    names = [f"rouge{size}" for size in range(1, _LONGEST_NGRAM + 1)]
    return RougeScorer(names, tokenizer=tokenizer), tokenizer


def _words(text: str) -> list[str]:
    """Letters and digits of any script, without case, as METEOR and GLEU count them."""
    found, word = [], []
    for character in text.casefold():
        if character.isalnum():
            word.append(character)
        elif word:
            found.append("".join(word))
            word.clear()
    return [*found, "".join(word)] if word else found


METRICS: dict[str, Callable[[str, str], float]] = {
    "cosine": _cosine,
    "fuzzy_match": _fuzzy,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
    **{f"rouge_{size}": _rouge(size) for size in range(1, _LONGEST_NGRAM + 1)},
    "rouge_l": _rouge_l,
}
