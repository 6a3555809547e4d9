"""Requests that begin alike have keys that do, for as far as their beginnings go."""

import random
from itertools import pairwise

from models import alike
from models.alike import KEY_MOST_BYTES, LINK_BYTES


def body(system: str, text: str, **fields: object) -> dict:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": "m", "messages": messages, **fields}


def links(first: dict, second: dict) -> int:
    """How many the two have in common from the beginning."""
    pair = (alike.key(first), alike.key(second))
    steps = range(LINK_BYTES, min(map(len, pair)) + 1, LINK_BYTES)
    return sum(1 for end in steps if pair[0][:end] == pair[1][:end])


def test_the_longer_the_common_beginning_the_more_of_the_key_is_common():
    shared = [links(body("s" * length, "a" * 9000), body("s" * length, "b" * 9000)) for length in (0, 300, 1000, 5000)]
    assert shared == sorted(set(shared)), "one more for each block, at least"
    assert shared[0] == 1, "the model is the same"


def test_another_model_or_other_tools_are_another_beginning():
    one = body("s" * 5000, "a")
    assert links(one, one | {"model": "n"}) == 0
    assert links(one, one | {"tools": [{"type": "function", "function": {"name": "f"}}]}) == 0


def test_a_key_is_small_whatever_the_prompt():
    assert len(alike.key(body("", "x" * (8 << 20)))) <= KEY_MOST_BYTES <= 100
    assert len(alike.key({"prompt": "x" * 1000})) == 4 * LINK_BYTES
    assert alike.key({}) == alike.key({})


def test_sorted_by_it_groups_stand_together():
    rows = [(group, body(f"You are {group}. " * 60, f"{number}")) for number in range(30) for group in "abcdefgh"]
    random.Random(1).shuffle(rows)
    order = [group for group, _ in sorted(rows, key=lambda pair: alike.key(pair[1]))]
    assert sum(1 for here, following in pairwise(order) if here != following) == 7
