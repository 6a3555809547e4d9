"""How does OpenAI's client talk to Tramontane?  As to OpenAI: two variables say where it is and who calls.

export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
python examples/openai_python.py                 # with any release of `openai` from 2 on
"""

import json
from typing import Any

from openai import BadRequestError, OpenAI

MODEL = "tram-demo"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}
CAPITAL: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
}


def ask(client: OpenAI, messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=messages, **more)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def stream(client: OpenAI) -> None:
    for chunk in ask(client, [user("What is the capital of France?")], stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def call_a_tool(client: OpenAI) -> None:
    messages = [user("What is the weather in London?")]
    asked = ask(client, messages, tools=[TOOL]).choices[0].message
    call = asked.tool_calls[0]
    print(call.function.name, call.function.arguments)
    told = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 14, "conditions": "cloudy"}'}
    print(ask(client, [*messages, asked, told], tools=[TOOL]).choices[0].message.content)


def answer_in_a_schema(client: OpenAI) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "capital", "schema": CAPITAL, "strict": True}}
    question = "Give me the capital of Norway as JSON with city and country."
    print(json.loads(ask(client, [user(question)], response_format=shape).choices[0].message.content)["city"])


def keep_and_find(client: OpenAI) -> None:
    made = ask(client, [user("What is 6 times 7?")], store=True, metadata={"example": "openai-python"})
    stored = next(iter(client.chat.completions.list(metadata={"example": "openai-python"})))
    print(stored.id == made.id, stored.choices[0].message.content)
    client.chat.completions.delete(made.id)


def be_refused(client: OpenAI) -> None:
    try:
        ask(client, [user("Hello!")], temperature=9)
    except BadRequestError as error:
        print(error.status_code, error.param)


def main() -> None:
    with OpenAI() as client:
        for step in (stream, call_a_tool, answer_in_a_schema, keep_and_find, be_refused):
            step(client)


if __name__ == "__main__":
    main()
