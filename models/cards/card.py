"""Which language models can be served, and what is to be known of each?

One TOML file a model beside this module; the file's fields are `Card`'s.  A card says what the model can do, what it costs, how
long it is offered, and which flags SGLang is started with on which kind of device and class of GPU; `models.cards.budget` has the
arithmetic behind the flags.  Refuses fields it does not know, and two cards that own one name.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.cards.gpus import Gpu
from models.errors import InvalidRequest

Device = Literal["cpu", "cuda"]
Modality = Literal["text", "image"]
Capability = Literal[
    "streaming",
    "tools",
    "parallel_tool_calls",
    "json_object",
    "json_schema",
    "guided_json",
    "regex",
    "logprobs",
    "continue_final_message",
    "images",
    "prefix_cache",
]
Flag = bool | int | float | str
Flags = dict[str, Flag]

ID_CHARACTERS = 100
"""As many as a job's row has room for."""
PACKAGED = "packaged"
"""In place of a repository's name: the weights ship with Tramontane."""

_DEVICES: tuple[Device, ...] = ("cpu", "cuda")
_LEAST_WAITING, _MOST_WAITING = 8, 128

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


class Vision(_Part):
    """The tower that reads images."""

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)


class Architecture(_Part):
    """What decides how much memory the model takes."""

    layers: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    weights_bytes: int = Field(gt=0)
    """On the GPU, once loaded."""
    vision: Vision | None = None


class EngineFlags(_Part):
    """SGLang's own flag names without their dashes; true means the bare flag.

    A device without a table cannot serve the card; a class of GPU without one does with what `cuda` says.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Flag]

    cpu: Flags | None = None
    cuda: Flags | None = None
    gpu: dict[Gpu, Flags] = {}

    @property
    def common(self) -> Flags:
        """Those that hold wherever the card is served."""
        return self.__pydantic_extra__

    def on(self, device: Device, gpu: Gpu | None) -> Flags | None:
        """The common flags, the device's own and those of the class of GPU; None where the device has no table."""
        own = self.cpu if device == "cpu" else self.cuda
        return None if own is None else self.common | own | (self.gpu.get(gpu, {}) if gpu else {})


def waiting_beside(running: int) -> int:
    """How many jobs the engine should see waiting: enough to choose prefixes from.

    Never more than 128, since from there on SGLang's `lpm` no longer looks for common prefixes, and serves in order of arrival.
    """
    return min(max(running // 4, _LEAST_WAITING), _MOST_WAITING)


def _concurrency(flags: EngineFlags, device: Device, gpu: Gpu | None) -> int:
    running = int((flags.on(device, gpu) or {}).get("max-running-requests", 0))
    return running + waiting_beside(running) if running else 0


def _plain_concurrency(fields: dict[str, Any]) -> int:
    """What fits wherever the card is served; `flags` is absent where it was refused."""
    flags: EngineFlags | None = fields.get("flags")
    found = (_concurrency(flags, device, None) for device in _DEVICES) if flags else ()
    return min(filter(None, found), default=0)


class Card(_Part):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=ID_CHARACTERS)
    """What the engine and the queue `chat.<id>` call it."""
    aliases: tuple[str, ...] = ()
    """Other names callers may write."""
    stands_in_for: tuple[str, ...] = ()
    """Other cards' names that this card answers to while no worker serves the card they belong to."""
    owned_by: str
    description: str
    toy: bool = False
    """Says plainly that its answers are of no use."""
    weights: str
    """A Hugging Face repository, or `PACKAGED`."""
    revision: str = "main"
    """Branch, tag or commit of that repository."""
    chat_template: str | None = None
    """A file beside the cards; None: the checkpoint's own."""
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
    sampling: Sampling
    tool_calls: str
    """The way this model writes calls; `infra.engine.call_text` reads `mistral`, no flag tells the engine of it."""
    architecture: Architecture | None = None
    """None for what a joined engine serves."""
    flags: EngineFlags
    concurrency: int = Field(default_factory=_plain_concurrency, gt=0, validate_default=True)
    """Jobs a worker holds at once where nothing is known of the GPU; left out, what the flags imply."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """The kinds of device it can be served on."""
        return tuple(device for device in _DEVICES if getattr(self.flags, device) is not None)

    def flags_on(self, device: Device, gpu: Gpu | None = None) -> Flags:
        """The common flags, the device's own and those of the class of GPU."""
        flags = self.flags.on(device, gpu)
        if flags is None:
            raise ValueError(f"{self.id} is not served on {device}")
        return flags

    def concurrency_on(self, device: Device, gpu: Gpu | None = None) -> int:
        """Jobs a worker holds at once: what its engine runs, and a few for it to choose prefixes from."""
        return _concurrency(self.flags, device, gpu) or self.concurrency

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.max_output_tokens > self.context_tokens:
            raise ValueError("an answer is part of the context: max_output_tokens exceeds context_tokens")
        if self.retires and self.retires <= self.launched:
            raise ValueError("retires before it is launched")
        if ("images" in self.capabilities) is not ("image" in self.modalities):
            raise ValueError("capabilities and modalities disagree on images")
        if self.flags.gpu and self.flags.cuda is None:
            raise ValueError("flags for a class of GPU, and none for GPUs in general")
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


def named(name: str) -> Card:
    """The card that owns the name.  Raises InvalidRequest, which says what there is."""
    card = resolve(name)
    if card is None:
        raise InvalidRequest(f"no card is called {name!r}; there are {', '.join(catalogue())}", param="model")
    return card


def stand_ins(name: str) -> tuple[Card, ...]:
    """The cards that may answer to another card's name while no worker serves that card."""
    asked = _plain(name)
    return tuple(card for card in catalogue().values() if asked in map(_plain, card.stands_in_for))


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
