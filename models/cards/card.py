"""Which language models can be served, and what is to be known of each?

One TOML file a model beside this module; the file's fields are `Card`'s.  A card says what the model can do, what it costs, how
long it is offered, and which flags SGLang is started with on which kind of device.  Refuses fields it does not know, and two
cards that answer to one name.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Device = Literal["cpu", "cuda"]
Modality = Literal["text", "image"]
Capability = Literal[
    "streaming", "tools", "parallel_tool_calls", "json_object", "json_schema", "logprobs", "prefix_cache"
]
Flag = bool | int | float | str
Flags = dict[str, Flag]

PACKAGED = "packaged"
"""In place of a repository's name: the weights ship with Tramontane."""

_DEVICES: tuple[Device, ...] = ("cpu", "cuda")

Tokens = Annotated[int, Field(gt=0)]
Usd = Annotated[Decimal, Field(ge=0, decimal_places=6)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Part):
    """USD per million tokens."""

    prompt: Usd
    completion: Usd


class Sampling(_Part):
    """What holds where a request is silent."""

    temperature: float = Field(ge=0, le=5)
    top_p: float = Field(gt=0, le=1)


class EngineFlags(_Part):
    """SGLang's own flag names without their dashes; true means the bare flag.  A device without a table cannot serve the card."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Flag]

    cpu: Flags | None = None
    cuda: Flags | None = None


class Card(_Part):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """What the engine and the queue `chat.<id>` call it."""
    aliases: tuple[str, ...] = ()
    """Other names callers may write."""
    owned_by: str
    description: str
    toy: bool = False
    """Says plainly that its answers are of no use."""
    weights: str
    """A Hugging Face repository, or `PACKAGED`."""
    revision: str = "main"
    """Branch, tag or commit of that repository."""
    context_tokens: Tokens
    """Prompt and answer together."""
    max_output_tokens: Tokens
    modalities: tuple[Modality, ...]
    capabilities: tuple[Capability, ...]
    prices: Prices
    launched: date
    retires: date | None = None
    successor: str | None = None
    """Id of the card to move to."""
    concurrency: int = Field(gt=0)
    """Jobs a worker holds at once: a little above the engine's running requests, so that it has prefixes to choose from."""
    sampling: Sampling
    tool_parser: str
    """SGLang's name for the way this model writes tool calls."""
    flags: EngineFlags

    @property
    def devices(self) -> tuple[Device, ...]:
        """The kinds of device it can be served on."""
        return tuple(device for device in _DEVICES if getattr(self.flags, device) is not None)

    def flags_on(self, device: Device) -> Flags:
        """The common flags and the device's own."""
        own: Flags | None = getattr(self.flags, device)
        if own is None:
            raise ValueError(f"{self.id} is not served on {device}")
        return {**self.flags.__pydantic_extra__, **own}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.max_output_tokens > self.context_tokens:
            raise ValueError("an answer is part of the context: max_output_tokens exceeds context_tokens")
        if self.retires and self.retires <= self.launched:
            raise ValueError("retires before it is launched")
        return self


@cache
def catalogue() -> Mapping[str, Card]:
    """Every packaged card by id."""
    entries = sorted(files(__package__).iterdir(), key=lambda entry: entry.name)
    texts = [entry.read_text(encoding="utf-8") for entry in entries if entry.name.endswith(".toml")]
    cards = [Card.model_validate(tomllib.loads(text)) for text in texts]
    return MappingProxyType({card.id: card for card in cards})


def resolve(name: str) -> Card | None:
    """The card of an id or alias, each also spelled with `-` for `/`; None if no card answers to it."""
    return _names().get(_plain(name))


@cache
def _names() -> Mapping[str, Card]:
    names: dict[str, Card] = {}
    for card in catalogue().values():
        for name in {_plain(spelling) for spelling in (card.id, *card.aliases)}:
            if name in names:
                raise ValueError(f"{card.id} and {names[name].id} both answer to {name}")
            names[name] = card
    return names


def _plain(name: str) -> str:
    return name.replace("/", "-")
