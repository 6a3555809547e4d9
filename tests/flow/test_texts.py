"""Is a raw prompt completed as the engine alone would?  openai-python's older door, through the service, on the real engine."""

import itertools
from collections.abc import Iterator

import httpx2
import openai
import pytest

from tests.flow.sse import events
from tests.flow.stack import Stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
MODEL = "tram-demo"
FRANCE = "The capital of France"
ODD = "Café 東京 🎉"
COLD = {"model": MODEL, "temperature": 0}
CAPITAL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as made:
        yield made


@pytest.fixture
def engines(engine_url: str):
    """What the engine itself answers."""

    def ask(**body) -> dict:
        answer = httpx2.post(f"{engine_url}/v1/completions", json=COLD | body, timeout=60, trust_env=False)
        return answer.raise_for_status().json()

    return ask


def joined(chunks: list) -> str:
    return "".join(choice.text for chunk in chunks for choice in chunk.choices)


def test_a_completion(client, engines):
    answer = client.completions.create(prompt=FRANCE, max_tokens=8, **COLD)
    alone = engines(prompt=FRANCE, max_tokens=8)
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", MODEL, "cmpl-")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == (alone["choices"][0]["text"], alone["choices"][0]["finish_reason"])
    assert (choice.text, choice.index, choice.logprobs) == (" is Paris.", 0, None)
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(answer.usage, count) == alone["usage"][count]


def test_a_completion_is_kept_as_a_chat_is(client, stack):
    answer = client.completions.create(prompt=FRANCE, **COLD)
    kept = client.chat.completions.retrieve(answer.id)
    assert kept.choices[0].message.content == answer.choices[0].text
    (message,) = client.chat.completions.messages.list(kept.id).data
    assert message.content == FRANCE
    job = stack.job(answer.id)
    assert job["usage"]["total_tokens"] == answer.usage.total_tokens
    (turn,) = stack.replayed(source_request_id=job["id"])["turns"]
    assert stack.job(turn["job_id"])["result"]["choices"][0]["message"]["content"] == answer.choices[0].text


def test_a_stream(client):
    chunks = list(client.completions.create(prompt=FRANCE, stream=True, stream_options={"include_usage": True}, **COLD))
    *said, last = chunks
    assert {(chunk.object, chunk.id) for chunk in chunks} == {("text_completion", chunks[0].id)}
    assert joined(said) == " is Paris."
    assert len(said) > 1, "as it comes; a busy engine gathers some tokens"
    assert [chunk.choices[0].finish_reason for chunk in said] == [None] * (len(said) - 1) + ["stop"]
    assert (last.choices, last.usage.completion_tokens) == ([], 4)
    assert {chunk.usage for chunk in said} == {None}


@pytest.mark.parametrize("prompt", [FRANCE, [FRANCE]])
@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_begins_with_the_prompt(client, prompt, stream):
    answer = client.completions.create(prompt=prompt, echo=True, stream=stream, **COLD)
    assert (joined(list(answer)) if stream else answer.choices[0].text) == FRANCE + " is Paris."


def test_who_does_not_say_gets_sixteen_tokens(client):
    answer = client.completions.create(prompt="1, 2, 3,", **COLD, seed=1, logit_bias={"2": -100})
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("prompt", [FRANCE, ODD])
@pytest.mark.parametrize("top", [0, 1, 3])
def test_log_probabilities_are_the_engines(client, engines, echo, prompt, top):
    fields = {"prompt": prompt, "max_tokens": 3, "echo": echo}
    (choice,) = client.completions.create(logprobs=top, **fields, **COLD).choices
    alone = engines(logprobs=max(1, top), **fields)["choices"][0]
    told = choice.logprobs
    assert (choice.text, told.tokens) == (alone["text"], alone["logprobs"]["tokens"])
    assert told.token_logprobs == pytest.approx(alone["logprobs"]["token_logprobs"], abs=1e-3)
    assert (told.token_logprobs[0] is None) == echo
    if top:
        names = [None if each is None else set(each) for each in alone["logprobs"]["top_logprobs"]]
        assert [None if each is None else set(each) for each in told.top_logprobs] == names
    else:
        assert told.top_logprobs is None


@pytest.mark.parametrize("stream", [False, True])
def test_each_token_is_where_its_offset_says(client, stream):
    fields = {"prompt": FRANCE, "echo": True, "logprobs": 1, "stream": stream, **COLD}
    answer = client.completions.create(**fields)
    chunks = list(answer) if stream else [answer]
    text = joined(chunks)
    found = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    tokens = list(itertools.chain.from_iterable(each.tokens for each in found))
    offsets = list(itertools.chain.from_iterable(each.text_offset for each in found))
    assert text == FRANCE + " is Paris."
    assert tokens[-1] == "</s>"
    assert [text[at:][: len(token)] for at, token in zip(offsets, tokens, strict=True)] == [*tokens[:-1], ""]
    assert offsets == sorted(offsets)


def test_a_prompts_likelihood_as_harnesses_ask_for_it(client):
    """lm-evaluation-harness: echo, logprobs and one token; the words' log probabilities behind the context are added up."""

    def likelihood(text: str) -> float:
        fields = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1}
        told = client.completions.create(**fields, **COLD).choices[0].logprobs
        return sum(value for value in told.token_logprobs[1:-1] if value is not None)

    assert likelihood("The capital of France is Paris") > likelihood("The capital of France is London") + 1


def test_several_choices(client):
    answer = client.completions.create(prompt=FRANCE, n=3, **COLD)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.text for choice in answer.choices} == {" is Paris."}
    chunks = list(client.completions.create(prompt=FRANCE, n=3, stream=True, **COLD))
    texts = dict.fromkeys(range(3), "")
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert set(texts.values()) == {" is Paris."}


def test_a_shape_binds_a_raw_answer_too(client):
    answer = client.completions.create(
        prompt="The capital of Norway as JSON:", max_tokens=30, **COLD, extra_body={"guided_json": CAPITAL}
    )
    assert answer.choices[0].text.startswith("{")


def test_the_prompt_may_go_through_the_template(client, stack):
    text = "What is the capital of France?"
    answer = client.completions.create(prompt=text, **COLD, extra_body={"raw": False})
    whole = stack.chat(text, temperature=0)
    assert answer.choices[0].text == whole["choices"][0]["message"]["content"]
    assert answer.usage.prompt_tokens == whole["usage"]["prompt_tokens"]
    streamed = client.completions.create(prompt=text, stream=True, **COLD, extra_body={"raw": False})
    assert joined(list(streamed)) == answer.choices[0].text


def test_a_job_may_have_a_raw_prompt(stack):
    job = stack.ended(stack.submit(FRANCE, raw=True, temperature=0))
    assert job["result"]["choices"][0]["message"]["content"] == " is Paris."


def test_what_has_a_name_is_made_once(client):
    fields = {"prompt": FRANCE, **COLD, "extra_headers": {"Idempotency-Key": "a text"}}
    first, second = client.completions.create(**fields), client.completions.create(**fields)
    assert first == second
    with pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(**fields | {"prompt": "Another"})


def test_a_stream_can_be_read_again_as_a_chats(client, stack):
    body = COLD | {"prompt": FRANCE, "stream": True}
    with stack.http.stream("POST", "/v1/completions", json=body) as response:
        seen = list(events(response))
    again = stack.http.get(f"/v1/chat/completions/{seen[0].chunk['id']}", params={"stream": True})
    assert '"object":"chat.completion.chunk"' in again.text
    assert [event.id for event in seen if event.id] == [
        line[4:] for line in again.text.split("\n") if line[:3] == "id:"
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_sdks(client, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(prompt="word " * 20_000, stream=stream, **COLD)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(prompt="x", logit_bias={"999999": 1}, stream=stream, **COLD)
    assert caught.value.param == "logit_bias"
