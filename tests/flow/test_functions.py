"""Do programs still work that were written for `functions`, before there were tools?  openai-python on the real engine."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.flow.stack import Stack, said

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
MODEL = "tram-demo"
LONDON = "What is the weather in London?"
BOTH = "What is the weather in Paris and in London?"
PLACE = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
WEATHER = {"name": "get_weather", "description": "Get the current weather", "parameters": PLACE}
TOOL = {"type": "function", "function": WEATHER}


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, messages: list, **fields):
    return client.chat.completions.create(model=MODEL, messages=messages, functions=[WEATHER], **fields)


@pytest.mark.parametrize("wish", ["auto", {"name": "get_weather"}], ids=str)
@pytest.mark.parametrize("question", [LONDON, BOTH])
def test_one_function_is_called(client, wish, question):
    """As `function_call`, whole and streamed; of several calls the first, since a message holds no more."""
    whole = ask(client, said(question), function_call=wish).choices[0]
    chunks = [chunk.choices[0] for chunk in ask(client, said(question), function_call=wish, stream=True)]
    place = "London" if question == LONDON else "Paris"
    assert (whole.finish_reason, whole.message.tool_calls, whole.message.content) == ("function_call", None, None)
    assert whole.message.function_call.name == "get_weather"
    assert json.loads(whole.message.function_call.arguments) == {"location": place}
    assert chunks[-1].finish_reason == "function_call"
    calls = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call]
    assert [call.name for call in calls if call.name] == ["get_weather"]
    assert json.loads("".join(call.arguments or "" for call in calls)) == {"location": place}
    assert not any(chunk.delta.tool_calls for chunk in chunks)


def test_no_function_is_called_where_none_is_to_be(client):
    choice = ask(client, said(LONDON), function_call="none").choices[0]
    assert (choice.finish_reason, choice.message.function_call) == ("stop", None)
    assert choice.message.content


def test_the_result_is_answered_as_a_tools_is(client, stack):
    """Word for word, and as the next turn of one conversation."""
    first = ask(client, said(LONDON))
    call = first.choices[0].message
    told = "Sunny, 9 degrees"
    after = [*said(LONDON), call.model_dump(), {"role": "function", "name": "get_weather", "content": told}]
    second = ask(client, after)
    as_tools = client.chat.completions.create(
        model=MODEL,
        tools=[TOOL],
        messages=[
            *said(LONDON),
            {
                "role": "assistant",
                "tool_calls": [{"id": "fc0000001", "type": "function", "function": call.function_call.model_dump()}],
            },
            {"role": "tool", "tool_call_id": "fc0000001", "content": told},
        ],
    )
    assert second.choices[0].message.content == as_tools.choices[0].message.content
    assert second.usage.prompt_tokens == as_tools.usage.prompt_tokens
    jobs = [stack.ended(made.id.replace("chatcmpl-", "job_")) for made in (first, second)]
    assert jobs[0]["conversation_id"] == jobs[1]["conversation_id"]


def test_what_is_stored_and_asked_again_is_the_same(client, stack):
    made = ask(client, said(LONDON))
    stored = client.chat.completions.retrieve(made.id)
    assert stored.choices[0].message.function_call == made.choices[0].message.function_call
    answer = stack.replayed(source_request_id=made.id)
    assert answer["verdict"] == "identical"
    again = stack.job(answer["turns"][0]["job_id"])["result"]["choices"][0]
    assert again["message"]["function_call"]["name"] == "get_weather"


def test_both_ways_at_once_are_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, said(LONDON), tools=[TOOL])
    assert caught.value.param == "tools"
