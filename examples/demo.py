"""What does Tramontane do?  This starts one, uses it the way you would, and shows what came of it.  `make demo` runs it.

It talks to the service from outside only: OpenAI's client for chats, plain HTTP for jobs and replays, a web server of its own for
the webhook.  The model is a toy that knows some dialogues by heart; everything around it is the real thing.
"""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx2
from openai import OpenAIError
from receiver import Receiver
from rich.console import Console
from rich.table import Table
from service import Client, NotStarted, Service
from standardwebhooks import Webhook

MODEL = "tram-demo"
FILES = Path(__file__).resolve().parents[1] / ".tram-demo"
STEPS_S = 120  # they take three seconds
LOG_LINES = 12
console = Console(highlight=False)


class Failed(Exception):
    """Something did not show what it must."""


@dataclass
class Happened:
    """A row of the table at the end; times in milliseconds."""

    what: str
    seen: str
    first_token: float | None = None
    total: float | None = None
    cached: str = ""


def stream_a_chat(tram: Client) -> Happened:
    """A chat, streamed"""
    question, text, first = "What is Tramontane?", "", None
    show(question)
    began = time.perf_counter()
    for chunk in tram.openai.chat.completions.create(model=MODEL, messages=[user(question)], stream=True):
        token = chunk.choices[0].delta.content or ""
        first = first or (since(began) if token else None)
        text += token
        console.print(token, end="", style="cyan", markup=False, soft_wrap=True)
    console.print()
    must("Every request becomes a job" in text, f"the answer was {text!r}")
    return Happened("chat", "token by token", first, since(began))


def be_told_by_webhook(tram: Client) -> Happened:
    """A job, and the webhook that says it has ended"""
    secret = tram.get("/webhook-secret")["secret"]
    with Receiver() as receiver:
        began = time.perf_counter()
        job = tram.post("/jobs", {"messages": [user("Tell me a story.")], "webhook_url": receiver.url})
        show("POST /v1/jobs", f"202, {job['id']} is {job['state']}")
        headers, body = receiver.next()
        took = since(began)
    event = Webhook(secret).verify(body, headers)
    same = tram.openai.webhooks.unwrap(body, headers, secret=secret)
    must(event["data"]["id"] == job["id"] and event["id"] == same.id, f"the event was {event}")
    show("POST to the receiver", f"{event['type']}, verified by standardwebhooks and by openai")
    show("what it brings", event["data"]["result"]["choices"][0]["message"]["content"][:70] + " ...")
    return Happened("job", "signed webhook", event["data"]["timing"]["ttft_ms"], took)


def converse(tram: Client) -> Happened:
    """A conversation, and what its common prefix saves"""
    began, messages, cached = time.perf_counter(), [], []
    for question in ("What is the capital of France?", "And of Italy?", "Which of the two is further north?"):
        messages.append(user(question))
        answer = tram.openai.chat.completions.create(model=MODEL, messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        show(question, messages[-1]["content"], f"{cached[-1]} of {answer.usage.prompt_tokens} prompt tokens cached")
    must(cached == sorted(set(cached)), f"the cached tokens did not rise: {cached}")
    return Happened("conversation", "three turns", total=since(began), cached=" < ".join(map(str, cached)))


def replay(tram: Client) -> Happened:
    """That conversation, asked again and compared"""
    said = next(row for row in tram.get("/conversations")["data"] if "France" in row["title"])
    began = time.perf_counter()
    found = tram.post("/replays", {"source_conversation_id": said["id"]})
    while found["status"] in {"queued", "in_progress"}:
        time.sleep(0.05)
        found = tram.get(f"/replays/{found['id']}")
    seen = f"{len(found['turns'])} turns, {found['verdict']}"
    show("POST /v1/replays", seen)
    must(found["verdict"] == "identical", f"the replay was {found['verdict']}: {found['turns']}")
    return Happened("replay", seen, total=since(began))


def call_a_tool(tram: Client) -> Happened:
    """A tool call"""
    question, weather = "What is the weather in London?", '{"temperature": 14, "conditions": "cloudy"}'
    began, messages = time.perf_counter(), [user(question)]
    asked = tram.openai.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
    must(asked.tool_calls, f"the model called no tool, but said {asked.content!r}")
    call = asked.tool_calls[0]
    show(question, f"{call.function.name}({call.function.arguments})")
    messages += [asked, {"role": "tool", "tool_call_id": call.id, "content": weather}]
    told = tram.openai.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
    show(weather, told.content)
    must("14 degrees" in (told.content or ""), f"the model made {told.content!r} of the tool's result")
    return Happened("tool call", "its result used", total=since(began))


def cancel(tram: Client) -> Happened:
    """A running job, cancelled"""
    endless = {"messages": [user("Count to twenty.")], "frequency_penalty": -2}  # rewards it for repeating itself
    job = tram.post("/jobs", endless)["id"]
    show("POST /v1/jobs", f"202, {job}, which would go on for 8,000 tokens")
    began = tokens = 0
    for line in tram.events(job):
        tokens += line.startswith("data:")
        if tokens == 50 and not began:
            began = time.perf_counter()
            tram.delete(f"/jobs/{job}")
    took, ended = since(began), tram.get(f"/jobs/{job}")
    must(ended["state"] == "cancelled", f"the job is {ended['state']}, not cancelled")
    show(f"DELETE /v1/jobs/{job}", f"cancelled {took:.0f} ms later, at {ended['usage']['completion_tokens']} tokens")
    return Happened("job, cancelled", "in mid-answer", ended["timing"]["ttft_ms"], took)


WHOSE_LOG: dict[type[Exception], str] = {  # tells why, most likely
    NotStarted: "",  # `tram up` has shown it
    TimeoutError: "upkeep",
    OpenAIError: "api",
    httpx2.HTTPError: "api",
    Failed: "worker",
}

STEPS = (stream_a_chat, be_told_by_webhook, converse, replay, call_a_tool, cancel)

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def show(asked: str, *answers: str | None) -> None:
    console.print(f"  {asked}", style="bold", markup=False)
    for answer in answers:
        console.print(f"    {answer}", style="cyan", markup=False)


def since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def must(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def too_slow(*_: object) -> NoReturn:
    raise Failed(f"the steps were not done within {STEPS_S} s")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, too_slow)
    console.print("Starting a Tramontane with a toy model on the CPU; it takes about half a minute.")
    tram, rows = Service(FILES, MODEL), []
    try:
        tram.wait_until_ready(console)
        signal.alarm(STEPS_S)
        for step in STEPS:
            console.print(f"\n[bold green]{step.__doc__}[/bold green]")
            rows.append(step(tram))
        summarise(rows)
    except tuple(WHOSE_LOG) as error:
        return tell(error)
    except KeyboardInterrupt:
        console.print("\n[yellow]Interrupted.[/yellow]")
        return 130
    finally:
        signal.alarm(0)
        with console.status("stopping"):
            tram.stop()
        console.print("Everything is stopped.")
    return 0


def tell(error: Exception) -> int:
    console.print(f"\n[red]The demo failed.[/red]  {type(error).__name__}:")
    console.print(str(error), markup=False)
    name = next(log for kind, log in WHOSE_LOG.items() if isinstance(error, kind))
    log = FILES / "logs" / f"{name}.log"
    if log.exists():
        console.print(f"The last lines of {log}:", soft_wrap=True)
        for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:]:
            console.print(line if len(line) < 400 else f"{line[:100]} ... {line[-300:]}", style="dim", markup=False)
    return 1


def summarise(rows: list[Happened]) -> None:
    drawn = Table("", "seen")
    for name in ("first token", "total", "cached tokens"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = [f"{value:.0f} ms" if value else "" for value in (row.first_token, row.total)]
        drawn.add_row(row.what, row.seen, *times, row.cached)
    console.print()
    console.print(drawn)
    console.print("[yellow]The model is a toy: it knows some dialogues by heart and nothing else.[/yellow]")
    console.print("Queue, engine (SGLang), store and signatures are those of production.")
    console.print("`make up` starts one to keep; README.md shows how to use it.\n")


if __name__ == "__main__":
    sys.exit(main())
