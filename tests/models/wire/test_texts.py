"""Is a text's request a chat's in other words, and a chat's answer a text's?"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest
from models.wire.chat import ChatRequest
from models.wire.texts import TextChunks, chat_of, text_completion

NAMED = {"id": "chatcmpl-1", "created": 1, "model": "m"}


def tokens(*pairs: tuple[str, float | None], top: int = 0) -> dict:
    others = [{"token": "x", "logprob": -2.0, "bytes": None}, {"token": "y", "logprob": -3.0, "bytes": None}]
    return {
        "content": [
            {"token": token, "logprob": value, "bytes": None, "top_logprobs": others[:top]} for token, value in pairs
        ]
    }


def chunk(*choices: dict, **more: object) -> bytes:
    told = [{"logprobs": None, "finish_reason": None} | choice for choice in choices]
    return json.dumps({**NAMED, "object": "chat.completion.chunk", "choices": told, **more}).encode()


@pytest.mark.parametrize(
    ("body", "chat"),
    [
        ({"prompt": "a"}, {"raw": True, "max_tokens": 16}),
        ({"prompt": ["a"], "max_tokens": 5}, {"raw": True, "max_tokens": 5}),
        ({"prompt": "a", "max_tokens": None, "raw": True}, {"raw": True, "max_tokens": 16}),
        ({"prompt": "a", "raw": False}, {"max_tokens": 16}),
        ({"prompt": "a", "logprobs": 0}, {"raw": True, "max_tokens": 16, "logprobs": True, "top_logprobs": 0}),
        ({"prompt": "a", "logprobs": 3}, {"raw": True, "max_tokens": 16, "logprobs": True, "top_logprobs": 3}),
        ({"prompt": "a", "best_of": 1, "echo": True, "n": 2}, {"raw": True, "max_tokens": 16, "echo": True, "n": 2}),
    ],
    ids=str,
)
def test_what_a_request_stands_for(body, chat):
    assert chat_of(body) == chat | {"messages": [{"role": "user", "content": "a"}]}
    ChatRequest.model_validate(chat_of(body))


@given(st.text(min_size=1))
def test_a_prompt_is_not_changed(prompt):
    assert chat_of({"prompt": prompt})["messages"] == [{"role": "user", "content": prompt}]


@pytest.mark.parametrize("prompt", [[1], [[1, 2]], ["a", "b"], [], [""], "", None, 5, ["a", 1]], ids=str)
def test_what_is_no_prompt(prompt):
    with pytest.raises(InvalidRequest) as caught:
        chat_of({"prompt": prompt})
    assert caught.value.param == "prompt"


def test_an_answer_in_other_words():
    choice = {"index": 0, "message": {"role": "assistant", "content": " b"}, "logprobs": None, "finish_reason": "stop"}
    told = text_completion({**NAMED, "object": "chat.completion", "choices": [choice], "usage": {}, "more": 1})
    assert told == {
        **NAMED,
        "id": "cmpl-1",
        "object": "text_completion",
        "choices": [{"text": " b", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {},
        "more": 1,
    }


def test_log_probabilities_lie_side_by_side():
    message = {"content": "ab"}
    choice = {"index": 0, "message": message, "logprobs": tokens(("a", None), ("b", -1.0)), "finish_reason": "stop"}
    told = text_completion({**NAMED, "choices": [choice]})["choices"][0]["logprobs"]
    expected = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": None, "text_offset": [0, 1]}
    assert told == expected
    choice["logprobs"] = tokens(("a", -1.0), top=2)
    told = text_completion({**NAMED, "choices": [choice]})["choices"][0]["logprobs"]
    assert told["top_logprobs"] == [{"x": -2.0, "y": -3.0}]


def test_chunks_in_other_words():
    said = TextChunks()
    assert said(chunk({"index": 0, "delta": {"role": "assistant", "content": ""}})) == [], "a text has no speaker"
    (told,) = said(chunk({"index": 0, "delta": {"role": "assistant", "content": "a"}}, service_tier="flex"))
    assert json.loads(told) == {
        **NAMED,
        "id": "cmpl-1",
        "object": "text_completion",
        "choices": [{"text": "a", "index": 0, "logprobs": None, "finish_reason": None}],
        "service_tier": "flex",
    }
    (told,) = said(chunk({"index": 0, "delta": {}, "finish_reason": "length"}))
    assert json.loads(told)["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}]
    (told,) = said(chunk(usage={"total_tokens": 5}))
    assert (json.loads(told)["choices"], json.loads(told)["usage"]) == ([], {"total_tokens": 5})


def offsets(*pieces: tuple[str, list[str]]) -> list[int]:
    said, found = TextChunks(), []
    for text, words in pieces:
        logprobs = tokens(*((word, -1.0) for word in words))
        (told,) = said(chunk({"index": 0, "delta": {"content": text}, "logprobs": logprobs}))
        found += json.loads(told)["choices"][0]["logprobs"]["text_offset"]
    return found


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([("The capital", ["The", " capital"]), (" of", [" of"])], [0, 3, 11]),
        ([("a a", ["a", " ", "a"])], [0, 1, 2]),
        ([("ab", ["<s>", "a", "b", "</s>"])], [0, 0, 1, 2]),
        ([("a東b", ["a", "æ", "\x9d", "±", "b"])], [0, 1, 1, 1, 2]),
        ([("a", ["a"]), ("", ["ð"]), ("🎉b", ["¬", "b"])], [0, 1, 1, 2]),
    ],
    ids=["across chunks", "twice the same", "special ones", "parts of a character", "held back"],
)
def test_where_tokens_stand(pieces, found):
    assert offsets(*pieces) == found


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1))
def test_tokens_that_make_the_text_stand_one_behind_the_other(words):
    found = offsets(("".join(words), words))
    assert found == [sum(map(len, words[:number])) for number in range(len(words))]
