"""A conversation seen from outside: what each turn added, what it was answered, what it took."""

from models.lifecycle import JobState
from models.tables.jobs import Job
from models.tables.transcripts import Answer, Conversation, Turn
from models.wire.conversations import conversation_view, turn_view

NOW = 1_800_000_000_000


def test_a_conversation_is_told_with_its_times():
    conversation = Conversation(id="conv_1", title="t", meta={"k": "v"}, created_ms=NOW, updated_ms=NOW + 5999)
    assert conversation_view(conversation) == {
        "id": "conv_1",
        "object": "conversation",
        "name": None,
        "title": "t",
        "metadata": {"k": "v"},
        "created_at": 1_800_000_000,
        "updated_at": 1_800_000_005,
    }


def test_a_turn_is_told_with_what_it_added_and_every_choice():
    turn = Turn(job_id="job_2", conversation_id="conv_1", parent_job_id="job_1", replay=True, created_ms=NOW)
    job = Job(
        batch_id="rpl_1", state=JobState.COMPLETED, model="m", prompt_tokens=10, completion_tokens=5, cached_tokens=3
    )
    question, answers = {"role": "user", "content": "hi"}, [{"role": "assistant", "content": text} for text in "ab"]
    rows = [(Answer(choice=number, finish_reason="stop"), message) for number, message in enumerate(answers)]
    assert turn_view(turn, job, [question], rows) == {
        "id": "job_2",
        "object": "conversation.turn",
        "parent_id": "job_1",
        "replay": True,
        "replay_id": "rpl_1",
        "imported": False,
        "state": "completed",
        "model": "m",
        "created_at": 1_800_000_000,
        "messages": [question],
        "answers": [{"index": number, "message": answers[number], "finish_reason": "stop"} for number in (0, 1)],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 3},
    }
