"""Are recorded turns asked again as they were, judged, watched, cancelled and announced?  On both columns, on the scriptable engine."""

import json
import time
from urllib.parse import quote
from uuid import uuid4

from tests.flow.engine import tokens
from tests.flow.hooks import Hooks
from tests.flow.sse import events, numbers, text_of
from tests.flow.stack import Stack, said, until

COLD = {"temperature": 0}


def ask(tram: Stack, messages: list[dict], **fields: object) -> tuple[str, list[dict]]:
    """The turn's job, and the messages with its answer."""
    answer = tram.http.post("/v1/chat/completions", json={"messages": messages, **COLD, **fields})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-tram-job"], [*messages, answer.json()["choices"][0]["message"]]


def opening(words: str = "!tokens=3") -> list[dict]:
    """The begin of a conversation that nobody has had."""
    return [{"role": "system", "content": uuid4().hex}, *said(words)]


def conversed(tram: Stack, *words: str, **fields: object) -> tuple[str, list[str]]:
    """A conversation of so many turns, and its jobs."""
    jobs, messages = [], [{"role": "system", "content": uuid4().hex}]
    for each in words:
        job, messages = ask(tram, [*messages, *said(each)], **fields)
        jobs.append(job)
    return tram.ended(jobs[-1])["conversation_id"], jobs


def codes(turn: dict) -> set[str]:
    return {reason["code"] for reason in turn["reasons"]}


def test_a_conversation_that_says_the_same_is_identical(tram: Stack):
    name, jobs = conversed(tram, "!tokens=3", "!tokens=4")
    view = tram.replayed(source_conversation_id=name)
    assert (view["object"], view["status"], view["verdict"]) == ("replay", "completed", "identical")
    assert (view["verdicts"], view["request_counts"]) == ({"identical": 2}, {"total": 2, "completed": 2, "failed": 0})
    assert [turn["source_job_id"] for turn in view["turns"]] == jobs
    assert [turn["target_output"] for turn in view["turns"]] == [tokens(3), tokens(4)]
    assert [codes(turn) for turn in view["turns"]] == [{"not_deterministic"}] * 2
    assert view["summary"]["comparable"] == {"turns": 2, "identical": 2, "diverged": 0}
    (environment,) = view["summary"]["environments"]
    assert view["turns"][0]["environment_source"] == environment
    again = tram.http.get(f"/v1/conversations/{name}").json()["turns"][2:]
    assert [turn["replay"] for turn in again] == [True, True], "each answer is kept, as a branch"
    assert {turn["replay_id"] for turn in again} == {view["id"]}


def test_another_length_diverges_at_a_token_and_says_that_it_was_asked_for(tram: Stack):
    first, _ = ask(tram, opening())
    view = tram.replayed(source_request_id=first.replace("job_", "chatcmpl-"), overrides={"max_tokens": 2})
    assert (view["verdict"], view["source_request_id"]) == ("diverged", first)
    assert (view["source_output"], view["target_output"]) == (tokens(3), tokens(2))
    difference = view["first_difference"]
    assert (difference["position"], difference["token"], difference["token_told_by"]) == (len(tokens(2)), 2, "stream")
    (turn,) = view["turns"]
    assert (turn["comparable"], codes(turn)) == (False, {"overridden", "not_deterministic"})
    assert turn["reasons"][0]["details"] == [{"parameter": "max_tokens", "recorded": None, "replayed": 2}]
    assert view in tram.listed("/v1/replays")


def test_the_system_prompt_and_the_tools_can_be_changed(tram: Stack):
    first, messages = ask(tram, opening())
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    view = tram.replayed(source_request_id=first, overrides={"system": "be brief", "tools": [tool]})
    sent = tram.engine.requests()[-1]
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, messages[1]]
    assert [each["function"]["name"] for each in sent["tools"]] == ["f"]
    (reason,) = [each for each in view["turns"][0]["reasons"] if each["code"] == "overridden"]
    assert [change["parameter"] for change in reason["details"]] == ["system", "tools"]


def test_what_no_request_may_say_is_refused_before_anything_is_asked(tram: Stack):
    first, _ = ask(tram, opening())
    for overrides, param in (({"temperature": 9}, "temperature"), ({"colour": "red"}, "colour")):
        answer = tram.http.post("/v1/replays", json={"source_request_id": first, "overrides": overrides})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    other = tram.http.post("/v1/replays", json={"source_request_id": first, "target_model": "gpt-9"})
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")


def test_a_turn_of_a_model_that_is_gone_fails_alone(tram: Stack):
    """The oldest of the plan, by which the others are not judged."""
    line = {"messages": [*opening(), {"role": "assistant", "content": "hi"}]}
    tram.http.post("/v1/conversations/import", params={"model": "gpt-9"}, json=line).raise_for_status()
    ask(tram, opening())
    view = tram.replayed(filter={"limit": 2})
    assert view["verdicts"] == {"identical": 1, "not_comparable": 1}
    assert "'gpt-9' does not exist" in view["turns"][0]["reasons"][0]["message"]
    gone = tram.http.post("/v1/replays", json={"filter": {"model": "gpt-9"}})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")


def test_what_has_no_answer_cannot_be_compared(tram: Stack):
    job_id = tram.submit("!status=400")
    tram.ended(job_id)
    view = tram.replayed(source_request_id=job_id)
    assert (view["status"], view["verdict"]) == ("failed", "not_comparable")
    assert "no_answer" in codes(view["turns"][0])


def test_dice_are_no_proof(tram: Stack):
    first, _ = ask(tram, opening("!stamp tokens=2"), temperature=0.7)
    view = tram.replayed(source_request_id=first)
    assert (view["verdict"], "sampled" in codes(view["turns"][0])) == ("not_comparable", True)
    assert view["first_difference"]["position"] >= 0, "where they part is told all the same"


def test_repeats_show_whether_it_is_always_the_same(tram: Stack):
    steady, _ = ask(tram, opening())
    view = tram.replayed(source_request_id=steady, repeats=3)
    assert view["verdicts"] == {"identical": 3}
    jobs = tram.listed("/v1/jobs", part_of=view["id"])
    assert {(job["id"], job["door"]) for job in jobs} == {(turn["job_id"], "replay") for turn in view["turns"]}
    assert [(turn["number"], turn["repeat"]) for turn in view["turns"]] == [(0, 0), (1, 1), (2, 2)]
    unsteady, _ = ask(tram, opening("!stamp tokens=2"))
    view = tram.replayed(source_request_id=unsteady, repeats=2)
    assert (view["verdict"], view["verdicts"]) == ("diverged", {"diverged": 2})


def test_a_live_conversation_is_asked_behind_its_own_answers(tram: Stack):
    name, jobs = conversed(tram, "!stamp tokens=1", "!tokens=2", "!tokens=3")
    view = tram.replayed(source_conversation_id=name, history="live")
    assert view["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    first, second, third = view["turns"]
    assert (first["verdict"], second["verdict"], third["verdict"]) == ("diverged", "identical", "identical")
    assert "history" in codes(second) & codes(third)
    assert [turn["source_job_id"] for turn in view["turns"]] == jobs
    sent = tram.engine.requests()[-1]["messages"]
    assert [message["content"] for message in sent if message["role"] == "assistant"] == [
        first["target_output"],
        second["target_output"],
    ]


def test_a_live_conversation_that_breaks_off_says_so(tram: Stack):
    """Without its tools the model calls none, so nobody has asked for the results that follow."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    calling = quote('[TOOL_CALLS] [{"name": "f", "arguments": {}}]')
    first, messages = ask(tram, opening(f"!raw={calling}"), tools=[tool])
    (call,) = messages[-1]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "42"}
    second, messages = ask(tram, [*messages, result, *said("!tokens=2")], tools=[tool])
    third, _ = ask(tram, [*messages, *said("!tokens=3")], tools=[tool])
    name = tram.ended(third)["conversation_id"]
    view = tram.replayed(source_conversation_id=name, history="live")
    assert (view["verdict"], view["turns"][0]["same_tool_calls"]) == ("identical", True)
    view = tram.replayed(source_conversation_id=name, history="live", overrides={"tools": None, "tool_choice": None})
    assert view["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert [turn["source_job_id"] for turn in view["turns"]] == [first, second, third]
    assert (view["turns"][0]["verdict"], view["turns"][0]["same_tool_calls"]) == ("diverged", False)
    assert [turn["verdict"] for turn in view["turns"][1:]] == ["not_comparable"] * 2
    assert "could not go on" in view["turns"][2]["reasons"][0]["message"]


def test_a_set_is_chosen_by_a_filter_and_read_in_pages(tram: Stack):
    tag = uuid4().hex
    jobs = [ask(tram, opening(f"!tokens={n}"), metadata={"set": tag})[0] for n in range(1, 6)]
    view = tram.replayed(filter={"metadata": {"set": tag}, "limit": 4})
    assert view["verdicts"] == {"identical": 4}
    path = view["turns_url"]
    page = tram.http.get(path, params={"limit": 3}).json()
    assert ([turn["source_job_id"] for turn in page["data"]], page["has_more"]) == (jobs[1:4], True)
    rest = tram.http.get(path, params={"after": page["last_number"]}).json()
    assert ([turn["source_job_id"] for turn in rest["data"]], rest["has_more"]) == (jobs[4:], False)
    for verdict, count in (("identical", 4), ("diverged", 0)):
        assert len(tram.http.get(path, params={"verdict": verdict}).json()["data"]) == count
    nothing = tram.http.post("/v1/replays", json={"filter": {"tag": uuid4().hex}})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (404, "filter")


def test_a_mode_overlooks_what_it_does_not_look_at(tram: Stack):
    first, _ = ask(tram, opening())
    for mode, verdict in (("exact", "diverged"), ("tools", "identical")):
        view = tram.replayed(source_request_id=first, overrides={"max_tokens": 1}, mode=mode)
        assert (view["mode"], view["verdict"]) == (mode, verdict)


def test_it_is_watched_and_announced(tram: Stack, hooks: Hooks):
    first, _ = ask(tram, opening())
    asked = {"source_request_id": first, "repeats": 2, "webhook_url": hooks.url, "metadata": {"why": "test"}}
    replay = tram.http.post("/v1/replays", json=asked).json()
    with tram.http.stream("GET", f"/v1/replays/{replay['id']}/events") as response:
        told = [event.data for event in events(response)]
    assert told[-1] == "[DONE]"
    last = json.loads(told[-2])
    assert (last["id"], last["object"], last["status"]) == (replay["id"], "replay", "completed")
    assert last["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    body = json.loads(hooks.sent()[0].body)
    assert (body["type"], body["data"]["id"]) == ("replay.completed", replay["id"])
    assert body["data"]["metadata"] == {"why": "test"}


def test_a_cancelled_replay_stops_and_keeps_what_was_answered(tram: Stack):
    first, _ = ask(tram, opening("!tokens=400 rate=100"))
    replay = tram.http.post("/v1/replays", json={"source_request_id": first, "repeats": 3}).json()
    path = f"/v1/replays/{replay['id']}"
    tram.engine.wait(running=3)
    assert tram.http.post(f"{path}/cancel").raise_for_status().json()["status"] in {"cancelling", "cancelled"}
    until(lambda: tram.http.get(path).json()["status"] == "cancelled", 30)
    tram.engine.wait(running=0)
    view = tram.http.get(path).json()
    assert {turn["verdict"] for turn in view["turns"]} == {"not_comparable"}
    assert all(codes(turn) & {"broken_off", "no_answer"} for turn in view["turns"])
    assert tram.http.post(f"{path}/cancel").json()["status"] == "cancelled", "an ended one stays as it is"


def test_what_made_an_answer_is_kept_with_how_long_it_took(tram: Stack):
    first, _ = ask(tram, opening())
    view = tram.replayed(source_request_id=first)
    (turn,) = view["turns"]
    assert turn["environment_source"] == turn["environment_target"]
    assert turn["environment_source"].startswith("env_")
    assert turn["latency_target_ms"] >= turn["ttft_target_ms"] >= 0


def test_a_recorded_answer_is_told_again_as_it_was_or_faster(tram: Stack):
    job_id = tram.submit("!tokens=20 rate=40")
    tram.ended(job_id)
    path = f"/v1/jobs/{job_id}/replay"
    streams, took_s = [], []
    for speed in ("max", "2x", "1"):
        began_s = time.monotonic()
        with tram.http.stream("GET", path, params={"speed": speed}) as response:
            streams.append(list(events(response)))
        took_s.append(time.monotonic() - began_s)
    assert streams[0] == streams[1] == streams[2] == tram.follow(job_id)
    assert (took_s[1] >= 0.2, took_s[2] >= 0.4) == (True, True), "20 tokens at 40 a second"
    assert text_of(streams[0]) == tokens(20)
    rest = tram.http.get(path, params={"speed": "max"}, headers={"last-event-id": streams[0][9].id})
    assert f"id: {streams[0][10].id}" in rest.text.split("\n\n")[0]
    assert numbers(streams[0]) == list(range(1, len(streams[0]) + 1))


def test_what_still_runs_cannot_be_told_again(tram: Stack):
    job_id = tram.submit("!hang")
    answer = tram.http.get(f"/v1/jobs/{job_id}/replay")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "still_running")
    tram.http.delete(f"/v1/jobs/{job_id}")
    tram.ended(job_id)
    assert "event: end" in tram.http.get(f"/v1/jobs/{job_id}/replay").text
    refused = tram.http.get(f"/v1/jobs/{job_id}/replay", params={"speed": "fast"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "speed")
