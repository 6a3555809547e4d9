"""However an engine cuts an answer up, its pieces add up to the answer: for us, and for OpenAI's own client."""

import copy

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from models.placement import Tier
from models.transcripts import Spoken
from models.wire.stream import DONE, RESTART, Answer, Frame, clean, completion, usage_of

JOB = "job_01aryz6s410000000000000000"
COMPLETION = "chatcmpl-01aryz6s410000000000000000"
NULLS = {"role": None, "content": None, "reasoning_content": None, "tool_calls": None}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def delta(index, finish=None, logprobs=None, **said):
    """A choice as SGLang sends it: with all its nulls, and a field of its own."""
    return {
        "index": index,
        "delta": {**NULLS, **said},
        "logprobs": logprobs,
        "finish_reason": finish,
        "matched_stop": None,
    }


def fragment(number, *, call_id=None, name=None, arguments=None):
    return {"id": call_id, "index": number, "type": "function", "function": {"name": name, "arguments": arguments}}


@st.composite
def cut(draw, text):
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def told(draw, index):
    """One choice's message, and the pieces in which it comes."""
    text = draw(texts)
    pieces = [delta(index, role="assistant", content="")]
    pieces += [delta(index, content=piece) for piece in draw(cut(text))]
    calls = draw(st.lists(st.tuples(texts.filter(bool), texts), max_size=2))
    made = []
    for number, (name, arguments) in enumerate(calls):
        call_id = f"call_{index}_{number}"
        made.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
        pieces.append(delta(index, tool_calls=[fragment(number, call_id=call_id, name=name, arguments="")]))
        pieces += [delta(index, tool_calls=[fragment(number, arguments=piece)]) for piece in draw(cut(arguments))]
    pieces.append(delta(index, "tool_calls" if calls else "stop"))
    message = {"role": "assistant", "content": text}
    if made:
        message |= {"content": text or None, "tool_calls": made}
    return message, pieces


@st.composite
def answers(draw):
    """One to three choices that begin in order, their pieces mixed as an engine mixes them, several in a chunk at times."""
    made = [draw(told(index)) for index in range(draw(st.integers(1, 3)))]
    waiting = [pieces[1:] for _, pieces in made]
    chunks = [[pieces[0]] for _, pieces in made]
    while open_ := [pieces for pieces in waiting if pieces]:
        ready = draw(st.lists(st.sampled_from(range(len(open_))), min_size=1, unique=True))
        chunks.append([open_[number].pop(0) for number in ready])
    return [message for message, _ in made], chunks


def added_up(chunks):
    answer = Answer()
    for choices in chunks:
        answer.add(clean(choices))
    return answer


def frame(**changes):
    return Frame(**({"job_id": JOB, "model": "m", "created_s": 1_800_000_000, "include_usage": False} | changes))


@settings(deadline=None)
@given(answers())
def test_the_pieces_add_up_to_the_answer(told):
    messages, chunks = told
    answer = added_up(chunks)
    assert answer.choices() == [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
        }
        for index, message in enumerate(messages)
    ]
    assert answer.text() == (messages[0]["content"] or "")
    assert set(answer.finish_reasons()) <= {"tool_calls", "stop"}


@settings(deadline=None)
@given(answers())
def test_openais_client_makes_the_same_of_the_stream_as_we_of_the_whole(told):
    _, chunks = told
    state, framed = ChatCompletionStreamState(), frame(include_usage=True)
    usage = usage_of(10, 5, 3)
    for choices in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(framed.chunk(orjson.dumps(clean(choices)))))
    state.handle_chunk(ChatCompletionChunk.model_validate_json(framed.usage(usage)))
    theirs = state.get_final_completion()
    ours = ChatCompletion.model_validate(completion(JOB, "m", 1_800_000_000, added_up(chunks).choices(), usage))
    assert (theirs.id, theirs.model, theirs.created, theirs.usage) == (ours.id, ours.model, ours.created, ours.usage)
    for one, other in zip(theirs.choices, ours.choices, strict=True):
        assert one.finish_reason == other.finish_reason
        assert (one.message.content or "") == (other.message.content or "")
        assert [
            (call.id, call.type, call.function.name, call.function.arguments) for call in one.message.tool_calls or ()
        ] == [
            (call.id, call.type, call.function.name, call.function.arguments) for call in other.message.tool_calls or ()
        ]


@settings(deadline=None)
@given(answers())
def test_cleaning_takes_nulls_and_strangers_fields_out_and_leaves_the_rest(told):
    _, chunks = told
    for choices in chunks:
        before = copy.deepcopy(choices)
        cleaned = clean(choices)
        assert choices == before
        for choice in cleaned:
            assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
            assert b"null" not in orjson.dumps(choice["delta"]).replace(orjson.dumps("null"), b"")
        assert clean(cleaned) == cleaned


def test_a_first_fragment_keeps_its_name_and_a_later_one_has_none():
    first, later = fragment(0, call_id="call_1", name="f", arguments=""), fragment(0, arguments="{}")
    assert clean([delta(0, tool_calls=[first])])[0]["delta"] == {"tool_calls": [first]}
    assert clean([delta(0, tool_calls=[later])])[0]["delta"] == {
        "tool_calls": [{"index": 0, "type": "function", "function": {"arguments": "{}"}}]
    }


def test_a_chunk_is_openais_in_one_line():
    choices = orjson.dumps(clean([delta(0, content="a\nb")]))
    chunk = frame().chunk(choices)
    assert b"\n" not in chunk
    assert orjson.loads(chunk) == {
        "id": COMPLETION,
        "object": "chat.completion.chunk",
        "created": 1_800_000_000,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [{"index": 0, "delta": {"content": "a\nb"}, "logprobs": None, "finish_reason": None}],
    }


def test_a_chunk_names_the_tier_that_was_used():
    assert orjson.loads(frame(tier=Tier.PRIORITY).chunk(b"[]"))["service_tier"] == "priority"


def test_usage_is_null_in_every_chunk_but_the_last_where_it_was_asked_for():
    framed = frame(include_usage=True, model='quo"te')
    assert orjson.loads(framed.chunk(b"[]"))["usage"] is None
    assert "usage" not in orjson.loads(frame().chunk(b"[]"))
    last = orjson.loads(framed.usage(usage_of(1, 2, 0)))
    assert (last["choices"], last["usage"]["total_tokens"], last["model"]) == ([], 3, 'quo"te')


def test_a_restart_stands_in_place_of_a_chunk():
    assert frame().chunk(b"null") == RESTART
    assert "choices" not in orjson.loads(RESTART)
    assert DONE == b"data: [DONE]\n\n"


def test_an_answer_that_has_not_begun_is_empty():
    answer = Answer()
    assert (answer.choices(), answer.spoken(), answer.finish_reasons(), answer.text()) == ([], [], [], "")


def test_only_a_choice_that_said_something_can_be_continued():
    call = fragment(0, call_id="call_1", name="f", arguments="{}")
    answer = added_up(
        [
            [delta(0, "stop", role="assistant", content="")],
            [delta(1, content="hi")],
            [delta(2, "tool_calls", tool_calls=[call])],
            [delta(3, "length", content="hello")],
        ]
    )
    whole = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert answer.spoken() == [
        Spoken({"role": "assistant", "content": "hi"}, "cut_off"),
        Spoken({"role": "assistant", "content": None, "tool_calls": [whole]}, "tool_calls"),
        Spoken({"role": "assistant", "content": "hello"}, "length"),
    ]
    assert answer.finish_reasons() == ["stop", None, "tool_calls", "length"]


def test_the_text_so_far_is_the_first_choices():
    answer = added_up([[delta(1, content="other")]])
    assert answer.text() == ""
    answer.add(clean([delta(0, content="he")]))
    answer.add(clean([delta(0, content="llo")]))
    assert answer.text() == "hello"


def test_log_probabilities_are_gathered_in_order():
    tokens = [{"token": token, "logprob": -1.0, "bytes": None, "top_logprobs": []} for token in "abc"]
    answer = added_up(
        [
            [delta(0, content="ab", logprobs={"content": tokens[:2]})],
            [delta(0, content="", logprobs={"content": None})],
            [delta(0, "stop", content="c", logprobs={"content": tokens[2:]})],
        ]
    )
    assert answer.choices()[0]["logprobs"] == {"content": tokens}


def test_a_call_that_comes_in_one_piece_or_without_a_function_is_put_together():
    answer = added_up(
        [[delta(0, tool_calls=[{"index": 1, "id": "call_2"}])], [delta(0, tool_calls=[fragment(0, name="f")])]]
    )
    first, second = answer.choices()[0]["message"]["tool_calls"]
    assert (first["function"], second["id"]) == ({"name": "f", "arguments": ""}, "call_2")


def test_usage_adds_up():
    assert usage_of(10, 5, 3) == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
