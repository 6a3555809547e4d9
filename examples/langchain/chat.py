"""How does LangChain talk to Tramontane?  Through its class for OpenAI; two variables say where it is and who calls.

export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
pip install -r examples/langchain/requirements.txt
python examples/langchain/chat.py
"""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Capital(BaseModel):
    city: str
    country: str


@tool
def get_weather(location: str) -> str:
    """Get the current weather"""
    assert location == "London"
    return '{"temperature": 14, "conditions": "cloudy"}'


def stream(model: ChatOpenAI) -> None:
    for chunk in model.stream("What is the capital of France?"):
        print(chunk.text, end="", flush=True)
    print()


def call_a_tool(model: ChatOpenAI) -> None:
    with_tools = model.bind_tools([get_weather])
    question = HumanMessage("What is the weather in London?")
    asked = with_tools.invoke([question])
    call = asked.tool_calls[0]
    print(call["name"], call["args"])
    told = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    print(with_tools.invoke([question, asked, told]).text)


def answer_in_a_schema(model: ChatOpenAI) -> None:
    question = "Give me the capital of Norway as JSON with city and country."
    print(repr(model.with_structured_output(Capital, method="json_schema").invoke(question)))


def main() -> None:
    model = ChatOpenAI(model="tram-demo")
    for step in (stream, call_a_tool, answer_in_a_schema):
        step(model)


if __name__ == "__main__":
    main()
