"""What made an answer, and in what do the makers of two answers differ?

An environment is a flat set of facts (weights, template, engine, its flags, the machine) and has a digest for a name.  Facts that
nobody could tell are null: two environments that are silent on the same fact look alike, and need not be.  Numbers that differ from
start to start and change no answer (ports, paths, seeds drawn at the start) are no facts.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import orjson
from sqlalchemy import Executable, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models.cards.card import Card, Flag
from models.tables.environments import Environment

Facts = Mapping[str, Any]
_DIGEST_BYTES = 16
DETERMINISTIC = "deterministic_inference"
"""Whether an answer does not depend on what the engine does beside it; null: it does not tell."""


@dataclass(frozen=True, slots=True)
class Known:
    """An environment with its name."""

    digest: str
    facts: Facts

    @classmethod
    def of(cls, facts: Facts) -> "Known":
        told = orjson.dumps(dict(facts), option=orjson.OPT_SORT_KEYS)
        return cls("env_" + hashlib.blake2b(told, digest_size=_DIGEST_BYTES).hexdigest(), facts)


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of the engine that a worker asks."""

    name: str
    version: str
    flags: Mapping[str, Flag | None]
    """By SGLang's names, without dashes before them."""
    device: str | None = None
    machine: str | None = None
    """The GPU's or the CPU's name; null where the engine is not ours."""


def facts_of(card: Card, engine: Engine, release: str) -> dict[str, Any]:
    """`release` is our own version: it reads tool calls and writes what the engine is asked."""
    flags = {f"flags.{name}": value for name, value in engine.flags.items() if name != _DETERMINISTIC_FLAG}
    return flags | {
        "card": card.id,
        "weights": card.weights,
        "revision": card.revision,
        "chat_template": template_digest(card.chat_template),
        "engine": engine.name,
        "engine_version": engine.version or None,
        "device": engine.device,
        "machine": engine.machine,
        DETERMINISTIC: engine.flags.get(_DETERMINISTIC_FLAG, False if engine.name == "sglang" else None),
        "tram": release,
    }


_DETERMINISTIC_FLAG = "enable-deterministic-inference"


@cache
def template_digest(name: str | None) -> str | None:
    """Of the template's text, so that an edit shows; None: the checkpoint's own."""
    if name is None:
        return None
    text = (files("models.cards") / name).read_bytes()
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


def why_not_deterministic(facts: Facts) -> str | None:
    """In one sentence; None where it is."""
    if facts.get(DETERMINISTIC):
        return None
    if facts.get("engine") != "sglang":
        return "the engine does not tell whether its answers depend on what else it does"
    if facts.get("device") == "cpu":
        return "SGLang has no batch-invariant kernels for CPUs: sums may be rounded otherwise beside other requests"
    return "SGLang runs without deterministic inference (TRAM_ENGINE_DETERMINISTIC): sums may be rounded otherwise in another batch"


def note(session: Session, known: Known, now_ms: int) -> None:
    """Idempotent; whoever comes second finds it there."""
    row = {"digest": known.digest, "facts": dict(known.facts), "created_ms": now_ms}
    session.execute(_NOTED[session.get_bind().dialect.name], [row])


def facts_by_digest(session: Session, digests: Collection[str | None]) -> dict[str, dict[str, Any]]:
    names = [digest for digest in digests if digest is not None]
    return {row.digest: row.facts for row in session.scalars(select(Environment).where(Environment.digest.in_(names)))}


def differences(before: Facts, after: Facts) -> list[dict[str, Any]]:
    """Fact by fact, in the order of their names."""
    names: Sequence[str] = sorted({*before, *after})
    return [
        {"fact": name, "recorded": before.get(name), "replayed": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    ]


_TABLE = cast("Table", Environment.__table__)
_NOTED: dict[str, Executable] = {
    "postgresql": postgresql.insert(_TABLE).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_TABLE).on_conflict_do_nothing(),
}
