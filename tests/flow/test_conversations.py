"""Are turns threaded by what they say, and replays compared with what was said?  On both columns."""

from uuid import uuid4

from tests.flow.engine import tokens
from tests.flow.stack import Stack, said, until


def ask(tram: Stack, messages: list[dict], **fields: object) -> tuple[str, list[dict]]:
    """The turn's job, and the messages with its answer."""
    answer = tram.http.post("/v1/chat/completions", json={"messages": messages, **fields})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-tram-job"], [*messages, answer.json()["choices"][0]["message"]]


def opening() -> list[dict]:
    """The begin of a conversation that nobody has had."""
    return [{"role": "system", "content": uuid4().hex}, *said("!tokens=3")]


def replayed(tram: Stack, **fields: object) -> dict:
    answer = tram.http.post("/v1/replays", json=fields)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    until(lambda: tram.http.get(path).json()["status"] in {"completed", "failed"}, 60)
    return tram.http.get(path).json()


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


def test_a_replay_of_what_says_the_same_is_identical(tram: Stack):
    first, messages = ask(tram, opening())
    second, _ = ask(tram, [*messages, *said("!tokens=4")])
    name = tram.ended(second)["conversation_id"]
    view = replayed(tram, source_conversation_id=name)
    assert (view["object"], view["status"], view["verdict"]) == ("replay", "completed", "identical")
    assert view["verdicts"] == {"identical": 2}
    assert [turn["source_job_id"] for turn in view["turns"]] == [first, second]
    assert {turn["job_id"] for turn in view["turns"]}.isdisjoint({first, second})
    turns = tram.http.get(f"/v1/conversations/{name}").json()["turns"]
    assert [turn["replay"] for turn in turns] == [False, False, True, True], "each answer is kept, as a branch"
    assert {turn["replay_id"] for turn in turns[2:]} == {view["id"]}


def test_a_replay_with_other_parameters_tells_where_they_part(tram: Stack):
    first, _ = ask(tram, opening())
    tram.ended(first)
    view = replayed(tram, source_request_id=first.replace("job_", "chatcmpl-"), overrides={"max_tokens": 2})
    assert (view["verdict"], view["source_request_id"]) == ("diverged", first)
    assert (view["source_output"], view["target_output"]) == (tokens(3), tokens(2))
    assert view["first_difference"]["position"] == len(tokens(2))
    assert view["overrides"] == {"max_tokens": 2}
    assert view in tram.listed("/v1/replays")


def test_what_has_no_answer_cannot_be_compared(tram: Stack):
    job_id = tram.submit("!status=400")
    tram.ended(job_id)
    view = replayed(tram, source_request_id=job_id)
    assert (view["status"], view["verdict"]) == ("failed", "not_comparable")
