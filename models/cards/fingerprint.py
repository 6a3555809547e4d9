"""What answered?  `system_fingerprint`: one short name for weights, template, engine and the flags it runs with.

Two answers with unequal names may differ for that reason alone.  Of a joined engine neither flags nor, unless it is SGLang, name and
version are known: what it does not tell cannot tell two of its kind apart.
"""

import hashlib
from collections.abc import Mapping

import orjson

from models.cards.card import Card, Flag

_DIGEST_BYTES = 5  # ten characters, as OpenAI's


def fingerprint(card: Card, engine: str, version: str, flags: Mapping[str, Flag]) -> str:
    """`flags` are those that the card gives the engine on this machine."""
    parts = [card.weights, card.revision, card.chat_template, engine, version, dict(flags)]
    told = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return "fp_" + hashlib.blake2b(told, digest_size=_DIGEST_BYTES).hexdigest()
