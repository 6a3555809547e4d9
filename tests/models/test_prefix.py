"""One name for one path: equal for what the model sees alike, unequal for all else, and for every account its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prefix import DIGEST_BYTES, cache_salt, canonical, chain, link, text_of

SALT = bytes(range(32))
OTHER_SALT = bytes(range(1, 33))
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

NAMES = [
    "56a74fac919d398c3913c0dfa3ecf380",
    "1abe76d86a7e85b958aa2c31beb84d67",
    "d4389c610508be0d1d3357d7d666fec2",
    "cb687c58ada12d5b459ee255e6c0c4cd",
]
CACHE_SALT = "f7a6ff96ab4932dcd5abf0b41a9db228"

texts = st.text(st.characters(exclude_categories=["Cs"]))
contents = texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1)
messages = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": contents})


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


def looked_at(detail):
    return {"type": "image_url", "image_url": IMAGE["image_url"] | {"detail": detail}}


def test_the_names_never_change():
    """They are keys of what is stored: another digest, salt handling or canonical form would orphan every transcript."""
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hallo, wie geht's? 🌬"}]
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": parts("7")}
    assert chain(SALT, [*told, answer, result]) == NAMES
    assert cache_salt(SALT) == CACHE_SALT


@given(st.lists(messages, min_size=1), st.lists(messages))
def test_a_longer_path_begins_with_the_names_of_the_shorter(first, more):
    whole = chain(SALT, first + more)
    assert whole[: len(first)] == chain(SALT, first)
    assert whole[len(first) :] == chain(SALT, more, parent=whole[len(first) - 1])


@given(messages, messages)
def test_two_messages_have_one_name_only_if_they_show_the_model_the_same(one, other):
    alike = (one["role"], text_of(one["content"])) == (other["role"], text_of(other["content"]))
    assert (link(SALT, "", one) == link(SALT, "", other)) is alike


@given(st.lists(texts, min_size=1))
def test_a_text_is_the_same_in_one_string_and_in_parts(pieces):
    whole, in_parts = {"role": "user", "content": "".join(pieces)}, {"role": "user", "content": parts(*pieces)}
    assert link(SALT, "", whole) == link(SALT, "", in_parts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"role": "assistant", "content": None}, {"role": "assistant"}),
        ({"role": "assistant", "content": ""}, {"role": "assistant"}),
        ({"role": "user", "content": "a", "name": None}, {"role": "user", "content": "a"}),
        ({"role": "user", "content": "a", "name": ""}, {"role": "user", "content": "a"}),
        ({"role": "assistant", "content": "a", "tool_calls": []}, {"role": "assistant", "content": "a"}),
        ({"content": "a", "role": "user"}, {"role": "user", "content": "a"}),
        ({"role": "assistant", "content": "a", "refusal": None}, {"role": "assistant", "content": "a"}),
        ({"role": "assistant", "tool_calls": [CALL | {"index": 0}]}, {"role": "assistant", "tool_calls": [CALL]}),
        ({"role": "user", "content": [looked_at("auto")]}, {"role": "user", "content": [IMAGE]}),
        ({"role": "user", "content": [looked_at(None)]}, {"role": "user", "content": [IMAGE]}),
    ],
)
def test_what_the_model_does_not_see_has_no_name(one, other):
    assert link(SALT, "", one) == link(SALT, "", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"role": "user", "content": "a"}, {"role": "system", "content": "a"}),
        ({"role": "system", "content": "a"}, {"role": "developer", "content": "a"}),
        ({"role": "user", "content": "a"}, {"role": "user", "content": "a "}),
        ({"role": "user", "content": "é"}, {"role": "user", "content": "e\u0301"}),
        ({"role": "user", "content": "a"}, {"role": "user", "content": "a", "name": "b"}),
        ({"role": "tool", "content": "a", "tool_call_id": "1"}, {"role": "tool", "content": "a", "tool_call_id": "2"}),
        ({"role": "assistant", "tool_calls": [CALL]}, {"role": "assistant", "tool_calls": [CALL, CALL]}),
        ({"role": "assistant", "tool_calls": [CALL]}, {"role": "assistant", "tool_calls": [CALL | {"id": "call_2"}]}),
        ({"role": "user", "content": [*parts("a"), IMAGE]}, {"role": "user", "content": [IMAGE, *parts("a")]}),
        ({"role": "user", "content": [*parts("a"), IMAGE]}, {"role": "user", "content": "a"}),
        ({"role": "user", "content": [looked_at("low")]}, {"role": "user", "content": [IMAGE]}),
        ({"role": "user", "content": [IMAGE, IMAGE]}, {"role": "user", "content": [IMAGE]}),
        ({"role": "user", "content": [IMAGE]}, {"role": "user", "content": parts(IMAGE["image_url"]["url"])}),
        ({"role": "user", "content": '[{"type":"text"}]'}, {"role": "user", "content": parts("")}),
    ],
)
def test_what_the_model_sees_otherwise_has_another_name(one, other):
    assert link(SALT, "", one) != link(SALT, "", other)


def test_a_call_without_arguments_is_a_call_with_empty_ones():
    call = {"id": "1", "type": "function", "function": {"name": "f"}}
    empty = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert canonical({"role": "assistant", "tool_calls": [call]}) == canonical(
        {"role": "assistant", "tool_calls": [empty]}
    )


def test_the_same_message_elsewhere_has_another_name():
    message = {"role": "user", "content": "yes"}
    assert len(set(chain(SALT, [message] * 5))) == 5


def test_equal_words_of_two_accounts_have_unequal_names():
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert set(chain(SALT, said)).isdisjoint(chain(OTHER_SALT, said))
    assert cache_salt(SALT) != cache_salt(OTHER_SALT)


def test_a_name_is_16_bytes_in_hex_and_tells_nothing_of_the_salt():
    names = [*chain(SALT, [{"role": "user", "content": "cache"}]), cache_salt(SALT)]
    assert all(len(bytes.fromhex(name)) == DIGEST_BYTES for name in names)
    assert not any(SALT.hex()[:8] in name for name in names)
