"""A stored completion is OpenAI's, with what it stands at; one that is not there yet has no choices."""

import pytest
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion_store_message import ChatCompletionStoreMessage
from pydantic import ValidationError

from models.errors import EngineLost
from models.lifecycle import JobState
from models.placement import Tier
from models.tables.jobs import Job
from models.wire.completions import CompletionUpdate, completion_view, message_views
from models.wire.stream import completion, usage_of

JOB_ID = "job_01aryz6s410000000000000000"
COMPLETION_ID = "chatcmpl-01aryz6s410000000000000000"


def job(state, **changes):
    return Job(id=JOB_ID, state=state, model="m", created_ms=1_800_000_000_999, meta={"k": "v"}, **changes)


def test_a_completion_that_is_there_is_shown_as_it_was_with_its_metadata():
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "logprobs": None, "finish_reason": "stop"}
    made = completion(JOB_ID, "m", 1_800_000_000, [choice], usage_of(1, 2, 0))
    view = completion_view(job(JobState.COMPLETED), made)
    assert view == made | {"status": "completed", "metadata": {"k": "v"}, "error": None}
    assert ChatCompletion.model_validate(view).choices[0].message.content == "hi"
    assert "status" not in made


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.IN_PROGRESS, JobState.CANCELLED])
def test_one_that_is_not_there_has_no_choices(state):
    assert completion_view(job(state), None) == {
        "id": COMPLETION_ID,
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "m",
        "choices": [],
        "usage": None,
        "service_tier": "default",
        "system_fingerprint": None,
        "status": state,
        "metadata": {"k": "v"},
        "error": None,
    }


def test_a_completion_and_what_stands_for_one_name_the_tier_that_was_used():
    made = completion(JOB_ID, "m", 1_800_000_000, [], usage_of(1, 2, 0), Tier.FLEX)
    waiting = completion_view(job(JobState.QUEUED, parameters={"service_tier": "flex"}), None)
    assert made["service_tier"] == waiting["service_tier"] == "flex"
    assert ChatCompletion.model_validate(made).service_tier == "flex"


def test_one_that_failed_says_why():
    view = completion_view(job(JobState.FAILED, error=EngineLost("the worker was lost").as_json()), None)
    assert (view["status"], view["error"]) == ("failed", {"code": "engine_lost", "message": "the worker was lost"})


def test_each_message_of_the_prompt_has_an_id_and_its_content_in_one_of_two_places():
    parts = [{"type": "text", "text": "hello"}]
    views = message_views(
        job(JobState.COMPLETED),
        [{"role": "user", "content": "hi"}, {"role": "user", "content": parts, "name": "ada"}, {"role": "assistant"}],
    )
    assert [view["id"] for view in views] == [f"{COMPLETION_ID}-{number}" for number in range(3)]
    assert [view["content"] for view in views] == ["hi", None, None]
    assert [view["content_parts"] for view in views] == [None, parts, None]
    assert [view["name"] for view in views] == [None, "ada", None]
    for view in views:
        assert ChatCompletionStoreMessage.model_validate(view | {"role": "assistant"}).id == view["id"]


@pytest.mark.parametrize("asked", [{}, {"metadata": None}, {"metadata": {"k": 1}}, {"metadata": {}, "model": "m"}])
def test_only_metadata_can_be_changed(asked):
    CompletionUpdate.model_validate({"metadata": {"k": "v"}})
    with pytest.raises(ValidationError):
        CompletionUpdate.model_validate(asked)
