"""Is a raw prompt asked as SGLang's completions are, and are its chunks, copied from the real one, a chat's?"""

import pytest

from infra.engine import raw

MESSAGES = [{"role": "user", "content": "The capital"}]
SAID = {
    "text_offset": [-1, -1],
    "token_logprobs": [None, -0.25],
    "tokens": ["The", " capital"],
    "top_logprobs": [None, {"re": -1.25, "es": -2.5}],
}


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        ({}, {}),
        ({"temperature": 0, "seed": 5}, {"temperature": 0, "seed": 5}),
        ({"max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": True, "echo": True}, {"logprobs": 1, "echo": True}),
        ({"logprobs": False}, {}),
        ({"input_ids": [1, 2]}, {"prompt": [1, 2]}),
    ],
    ids=str,
)
def test_what_is_sent(parameters, body):
    assert raw.asked({"raw": True} | parameters, MESSAGES) == {"prompt": "The capital"} | body


def test_chunks_become_a_chats():
    chunks = raw.ChatChunks({"top_logprobs": 1})
    first = chunks.of(
        {"choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}], "usage": {"x": 1}}
    )
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert first["usage"] == {"x": 1}
    (last,) = chunks.of({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})["choices"]
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    (other,) = chunks.of({"choices": [{"index": 1, "text": "", "finish_reason": None}]})["choices"]
    assert other["delta"] == {"role": "assistant"}
    assert chunks.of({"choices": [], "usage": {"x": 2}}) == {"choices": [], "usage": {"x": 2}}


@pytest.mark.parametrize("top", [0, 1, 5])
def test_log_probabilities_become_a_chats(top):
    chunks = raw.ChatChunks({"top_logprobs": top})
    (choice,) = chunks.of({"choices": [{"index": 0, "text": "The capital", "logprobs": SAID}]})["choices"]
    first, second = choice["logprobs"]["content"]
    assert first == {"token": "The", "logprob": None, "bytes": None, "top_logprobs": []}
    assert (second["token"], second["logprob"]) == (" capital", -0.25)
    assert [each["token"] for each in second["top_logprobs"]] == ["re", "es"][:top]


def test_without_others_there_are_none():
    said = SAID | {"top_logprobs": []}
    (choice,) = raw.ChatChunks({}).of({"choices": [{"index": 0, "text": "x", "logprobs": said}]})["choices"]
    assert [each["top_logprobs"] for each in choice["logprobs"]["content"]] == [[], []]
