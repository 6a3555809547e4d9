"""How much may an account use, what does a job cost, and what is to be held for it before it runs?

Rules over values: `infra.rate_limiter` keeps the counts, `models.usage` the books.  Money is integer micro-dollars, which is what
one token costs where a card says dollars per million.  What is held for a job bounds its cost from above, so jobs that run at the
same time cannot together overrun a cap; the token rate is charged an expectation, and corrected when the job ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Protocol

import orjson

from models.cards.card import Card, catalogue, resolve

MINUTE_MS = 60_000
RETRY_MOST_S = 120.0
"""OpenAI's clients do not try again when told to wait longer."""
MICROS_PER_CENT = 10_000
MICROS_PER_USD = 1_000_000

_ANSWER_TOKENS = 512
"""What an answer is expected to take of a token rate where the request sets no limit."""
_TEMPLATE_TOKENS = 1_024
"""Room for what the chat template adds: a default system prompt, and marks around each part."""
_IMAGE_TOKENS = 4_096
"""An image of the largest size that Mistral Small 3.1 looks at has 3,025 patches, and a mark a row."""
_MESSAGE_TOKENS = 16
_BYTES_PER_TOKEN = 3
"""English has four; the token rate is charged a little too much until the job ends."""


@dataclass(frozen=True, slots=True)
class Limits:
    """One account's; None is no limit."""

    account_id: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel: int | None = None
    models: tuple[str, ...] | None = None
    month_cap_micros: int | None = None
    total_cap_micros: int | None = None
    credit_micros: int | None = None

    @property
    def counted(self) -> bool:
        """Whether anything of it has to be counted."""
        return any(getattr(self, name) is not None for name in _COUNTED)

    @property
    def money(self) -> bool:
        return any(getattr(self, name) is not None for name in _MONEY)

    def allows(self, card_id: str, name: str) -> bool:
        """Whether the model may be used, whichever of its names was allowed and whichever is asked for."""
        return self.models is None or any(
            each in {card_id, name} or ((card := resolve(each)) is not None and card.id == card_id)
            for each in self.models
        )


_MONEY = ("month_cap_micros", "total_cap_micros", "credit_micros")
_COUNTED = ("requests_per_minute", "tokens_per_minute", "parallel", *_MONEY)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job takes before it runs."""

    job_id: str
    tokens: int
    """Expected; for the token rate."""
    micros: int
    """At most; for caps and credits."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job that has ended took in truth; for whoever keeps the counts."""

    job_id: str
    accounts: tuple[str, ...]
    tokens: int
    micros: int
    month: str


class Used(Protocol):
    """A job's ending, or its usage in the books."""

    @property
    def at_ms(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


def month_of(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")


def cost_micros(card_id: str, prompt_tokens: int, completion_tokens: int) -> int:
    """Rounded once a job.  A joined engine's model is on no card here and has no price."""
    card = catalogue().get(card_id)
    return 0 if card is None else _cost(card, prompt_tokens, completion_tokens, ROUND_HALF_UP)


def _cost(card: Card, prompt_tokens: int, completion_tokens: int, rounding: str) -> int:
    exact = card.prices.prompt * prompt_tokens + card.prices.completion * completion_tokens
    return int(exact.quantize(Decimal(1), rounding=rounding))


def demand(
    job_id: str, card: Card | None, messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> Demand:
    """`card` is None for a model without one, whose tokens cost nothing."""
    said, images = _size(messages, parameters)
    choices = parameters.get("n") or 1
    asked = parameters.get("max_completion_tokens") or parameters.get("max_tokens")
    tokens = said // _BYTES_PER_TOKEN + images * _IMAGE_TOKENS + (asked or _ANSWER_TOKENS) * choices
    if card is None:
        return Demand(job_id, tokens, 0)
    prompt = said + images * _IMAGE_TOKENS + len(messages) * _MESSAGE_TOKENS + _TEMPLATE_TOKENS
    answer = min(asked or card.max_output_tokens, card.context_tokens) * choices
    return Demand(job_id, tokens, _cost(card, min(prompt, card.context_tokens), answer, "ROUND_CEILING"))


def _size(messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of what is said, of which each token takes at least one; and how many images are shown."""
    parts = [part for each in messages if isinstance(each.get("content"), list) for part in each["content"]]
    images = [part for part in parts if part["type"] == "image_url"]
    shown = sum(len(orjson.dumps(image)) for image in images)
    told = len(orjson.dumps(messages)) + len(orjson.dumps(parameters.get("tools") or []))
    return told - shown, len(images)


def settlement(job: Any, used: Used) -> Settlement | None:
    """`job` is a claim or a row; None where nothing is held for it."""
    if job.held_micros is None:
        return None
    return Settlement(
        job_id=job.id,
        accounts=tuple(filter(None, (job.account_id, job.parent_id))),
        tokens=used.prompt_tokens + used.completion_tokens,
        micros=cost_micros(job.card, used.prompt_tokens, used.completion_tokens),
        month=month_of(used.at_ms),
    )


def span(milliseconds: float) -> str:
    """As OpenAI writes the time until a limit is whole again: `6m0s`, `1s`, `20ms`."""
    left = max(0, round(milliseconds))
    if left < 1000:  # noqa: PLR2004 -- milliseconds in a second
        return f"{left}ms"
    minutes, seconds = divmod(-(-left // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"
