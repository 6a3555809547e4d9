"""Are turns threaded by what they say?  On both columns."""

from uuid import uuid4

from tests.flow.engine import tokens
from tests.flow.stack import Stack, said


def ask(tram: Stack, messages: list[dict], **fields: object) -> tuple[str, list[dict]]:
    """The turn's job, and the messages with its answer."""
    answer = tram.http.post("/v1/chat/completions", json={"messages": messages, **fields})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-tram-job"], [*messages, answer.json()["choices"][0]["message"]]


def opening() -> list[dict]:
    """The begin of a conversation that nobody has had."""
    return [{"role": "system", "content": uuid4().hex}, *said("!tokens=3")]


def test_a_prompt_that_holds_an_earlier_answer_is_its_next_turn(tram: Stack):
    first, messages = ask(tram, opening())
    second, messages = ask(tram, [*messages, *said("!tokens=4")])
    third, _ = ask(tram, [*messages, *said("!tokens=5")])
    name = tram.ended(third)["conversation_id"]
    assert {tram.job(job_id)["conversation_id"] for job_id in (first, second)} == {name}
    conversation = tram.http.get(f"/v1/conversations/{name}").json()
    assert conversation["title"] == "!tokens=3"
    turns = conversation["turns"]
    assert [(turn["id"], turn["parent_id"]) for turn in turns] == [(first, None), (second, first), (third, second)]
    assert [len(turn["messages"]) for turn in turns] == [2, 1, 1], "each turn tells what it has added"
    assert [turn["answers"][0]["message"]["content"] for turn in turns] == [tokens(3), tokens(4), tokens(5)]
    assert tram.listed("/v1/conversations")[0]["id"] == name


def test_a_prompt_that_parts_from_it_is_a_branch(tram: Stack):
    first, messages = ask(tram, opening())
    second, _ = ask(tram, [*messages, *said("!tokens=4")])
    branch, _ = ask(tram, [*messages, *said("!tokens=5")])
    turns = tram.http.get(f"/v1/conversations/{tram.ended(branch)['conversation_id']}").json()["turns"]
    assert [(turn["id"], turn["parent_id"]) for turn in turns] == [(first, None), (second, first), (branch, first)]


def test_a_conversation_can_be_named(tram: Stack):
    first, _ = ask(tram, opening())
    name = tram.ended(first)["conversation_id"]
    other, _ = ask(tram, opening(), conversation_id=name)
    assert tram.ended(other)["conversation_id"] == name
    assert [turn["id"] for turn in tram.http.get(f"/v1/conversations/{name}").json()["turns"]] == [first, other]
