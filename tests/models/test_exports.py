"""What was said goes out in records, one a branch, and comes in again as the same: nothing lost, nothing twice, nothing in the books."""

import random

import orjson
import pytest
from sqlalchemy import func, select, text

from models import branches, deletions, exports, ids, imports, jobs, replays, transcripts
from models.accounts import create_account
from models.errors import InvalidRequest
from models.handover import Ending
from models.imports import bring_all
from models.lifecycle import JobState
from models.marks import Marker
from models.searches import Wanted
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn
from models.tables.usage import Usage
from models.transcripts import Spoken
from models.wire.exported import IMAGE, sharegpt_record
from models.wire.imported import parsed
from tests.models.conftest import NOW, asked, ended, row, running, said

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
ASKED = {"temperature": 0.5, "seed": 7}
TABLES = (Message, Turn, Answer, Conversation)


def reply(text):
    return said(text, "assistant")


def home(session, job):
    return row(session, job).conversation_id


def exported(session, account, *, replays=False, **wanted):
    marker = Marker(account, session.get_one(Account, account).salt)
    rows, after = exports.records(session, marker, Wanted(**wanted), None, replays=replays)
    while after is not None:
        more, after = exports.records(session, marker, Wanted(**wanted), after, replays=replays)
        rows += more
    return rows


def brought(session, account, records, model="tiny"):
    session.flush()
    session.expire_all()
    return bring_all(session, account, [parsed(orjson.loads(orjson.dumps(each))) for each in records], model, NOW + 99)


def delete(session, account):
    for conversation in session.scalars(select(Conversation).where(Conversation.account_id == account)).all():
        while turns := deletions.doomed(session, conversation.id):
            deletions.delete_turns(session, conversation, turns, NOW)
        session.flush()
    session.expire_all()


def counts(session):
    return tuple(session.scalar(select(func.count()).select_from(each)) for each in TABLES)


def at(created_ms):
    """Ids of one millisecond have no order; these are as far apart as their jobs."""
    return {"id": "job_" + ids.suffix(created_ms), "created_ms": created_ms}


def talk(session, account):
    """A conversation of everything: branches, choices, tools, pictures, a failed turn and a replay."""
    ticks = iter(range(NOW, NOW + 1000))
    begin = [said("Be brief.", "system"), said("Hello!")]
    first = asked(session, account, begin, "Hi.", "Hey.", **at(next(ticks)), parameters=ASKED, meta={"k": "v"})
    look = {"role": "user", "content": [{"type": "text", "text": "See "}, PICTURE]}
    asked(session, account, [*begin, reply("Hi."), look], "A dot.", **at(next(ticks)), parameters=ASKED)
    weather = [*begin, reply("Hey."), said("And the weather?")]
    job = running(session, account, weather, **at(next(ticks)), parameters=ASKED | {"tools": TOOLS}, tag="t")
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW + 9, answers=[Spoken(calling, "tool_calls")]))
    told = [*weather, calling, {"role": "tool", "content": "30 °C", "tool_call_id": "call_1"}]
    asked(session, account, told, "Hot.", **at(next(ticks)), parameters=ASKED | {"tools": TOOLS})
    ended(session, account, JobState.FAILED, messages=[*begin, reply("Hi."), said("Break!")], **at(next(ticks)))
    again = {"door": Door.REPLAY, "batch_id": "rpl_1", "source_job_id": first, "conversation_id": home(session, first)}
    asked(session, account, begin, "Hello again.", **at(next(ticks)), parameters=ASKED, **again)
    asked(session, account, begin, "Hi.", **at(next(ticks)), parameters=ASKED, **again)
    return home(session, first)


def test_every_way_a_conversation_went_is_a_branch(session, account):
    name = talk(session, account)
    told = branches.told(session, name)
    ends = [(told.tree[leaf.tip].message.get("content"), leaf.turn.replay) for leaf in told.leaves]
    assert ends == [("A dot.", False), ("Hot.", False), ("Break!", False), ("Hello again.", True)]
    assert [len(told.nodes(leaf.tip)) for leaf in told.leaves] == [5, 7, 4, 3]


def test_what_is_exported_deleted_and_imported_is_exported_as_the_same(session, account):
    name = talk(session, account)
    asked(session, account, [said("another")], "one", **at(NOW + 5000))
    before = exported(session, account, replays=True)
    assert len(before) == 5
    kept = counts(session)
    delete(session, account)
    assert counts(session) == (0, 0, 0, 0)
    result = brought(session, account, before)
    assert (result.conversations, result.held) == (2, 0)
    assert orjson.dumps(exported(session, account, replays=True)) == orjson.dumps(before)
    # But for the replay that said what had been said.
    assert counts(session) == (kept[0], kept[1] - 1, kept[2] - 1, kept[3])
    assert session.get(Conversation, name) is not None
    delete(session, account)
    brought(session, account, before)
    assert orjson.dumps(exported(session, account, replays=True)) == orjson.dumps(before), "and a third time"


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_turn_that_had_to_call_comes_back_with_the_tools_that_its_record_says_once(session, account, choice):
    told = ASKED | {"tools": TOOLS, "tool_choice": choice}
    asked(session, account, [said("Weather?")], "Hot.", **at(NOW), parameters=told)
    (before,) = exported(session, account)
    delete(session, account)
    assert brought(session, account, [before]).turns == 1
    assert session.scalars(select(Job.parameters).where(Job.door == Door.IMPORT)).one() == told


def test_a_call_of_a_tool_that_its_record_has_not_is_refused(session, account):
    asked(session, account, [said("Weather?")], "Hot.", parameters={"tools": TOOLS, "tool_choice": NAMED})
    (record,) = exported(session, account)
    with pytest.raises(InvalidRequest, match="no tool has this name"):
        parsed(record | {"tools": [{"type": "function", "function": {"name": "other"}}]})


def test_choices_of_one_answer_are_of_one_turn_again(session, account):
    talk(session, account)
    before = exported(session, account)
    delete(session, account)
    brought(session, account, before)
    first = session.scalars(select(Turn).order_by(Turn.job_id)).first()
    answers = transcripts.answers_of(session, [first.job_id])[first.job_id]
    assert [message["content"] for _, message in answers] == ["Hi.", "Hey."]


def test_the_same_records_again_bring_nothing(session, account):
    talk(session, account)
    records = exported(session, account)
    there = counts(session)
    result = brought(session, account, records)
    assert (result.conversations, result.turns, result.messages, result.held) == (0, 0, 0, len(records))
    assert counts(session) == there
    other = create_account(session, "bob", NOW)
    assert brought(session, other, records).conversations == 1
    there = counts(session)
    assert brought(session, other, records).held == len(records), "under the other id that it got there"
    assert counts(session) == there


def test_a_turn_that_was_imported_is_in_no_books_and_tells_where_it_is_from(session, account):
    talk(session, account)
    records = exported(session, account)
    delete(session, account)
    booked = session.scalar(select(func.count()).select_from(Usage))
    brought(session, account, records)
    assert session.scalar(select(func.count()).select_from(Usage)) == booked
    rows = session.scalars(select(Job).where(Job.door == Door.IMPORT)).all()
    assert len(rows) == 5
    assert {job.queue for job in rows} == {imports.QUEUE}
    assert all(job.publish_due_ms is None and job.cost_micros is None for job in rows)
    delete(session, account)
    assert session.scalar(select(func.count()).select_from(Job).where(Job.door == Door.IMPORT)) == 0


def test_what_was_imported_can_be_asked_again_as_it_was(session, account):
    name = talk(session, account)
    told = asked_again(session, account, name)
    records = exported(session, account)
    delete(session, account)
    brought(session, account, records)
    assert asked_again(session, account, name) == told
    assert len(told) > 1


def asked_again(session, account, name):
    """What a replay of the conversation would ask."""
    turns = replays.plan(session, account, job_id=None, conversation_id=name, wanted=None)
    same = {"overrides": {}, "target_model": None}
    return [replays.request_of(session, same, turn.job_id) for turn in turns]


def test_a_conversation_goes_on_from_what_was_imported(session, account):
    brought(session, account, [{"messages": [said("hello"), reply("hi")]}])
    (turn,) = session.scalars(select(Turn)).all()
    following = asked(session, account, [said("hello"), reply("hi"), said("more")], "ok")
    assert session.get_one(Turn, following).parent_job_id == turn.job_id


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("mistralai/Mistral-Small-24B-Instruct", "mistral-small-24b-instruct-2501-awq"),
        ("@cf/mistralai/mistral-small-3.1-24b-instruct", "mistral-small-3.1-24b-instruct-2503"),
        ("x" * 150, "x" * 100),
    ],
)
def test_a_model_is_kept_as_it_was_written_and_found_by_the_card_it_means(session, account, name, card):
    asked(session, account, [said("hello")], "hi", model=name, card=card)
    records = exported(session, account)
    delete(session, account)
    brought(session, account, records)
    (job,) = session.scalars(select(Job).where(Job.door == Door.IMPORT)).all()
    assert (job.model, job.card) == (name, card)


def test_a_strangers_line_is_a_conversation_of_turns(session, account):
    line = {"messages": [said("s", "developer"), said("a"), reply("b") | {"weight": 0}, said("c"), reply("d")], "id": 7}
    result = brought(session, account, [line, {"messages": [said("a")], "metadata": {"set": "x"}}])
    assert (result.conversations, result.turns, result.messages) == (2, 3, 6)
    turns = session.scalars(select(Turn).order_by(Turn.created_ms, Turn.job_id)).all()
    assert {session.get_one(Job, turn.job_id).model for turn in turns} == {"tiny"}
    whole, bare = sorted(exported(session, account), key=lambda record: -len(record["messages"]))
    assert [message["role"] for message in whole["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert whole["messages"][2] == reply("b")
    assert [turn["message"] for turn in whole["tramontane"]["turns"]] == [2, 4]
    assert (bare["messages"], bare["metadata"], bare["tramontane"]["turns"][0]["state"]) == (
        [said("a")],
        {"set": "x"},
        "cancelled",
    )
    assert brought(session, account, [line]).held == 1


def test_sharegpt_carries_roles_and_texts_and_calls(session, account):
    talk(session, account)
    told = [sharegpt_record(record)["conversations"] for record in exported(session, account)]
    assert [[each["from"] for each in said] for said in told] == [
        ["system", "human", "gpt", "human", "gpt"],
        ["system", "human", "gpt", "human", "function_call", "observation", "gpt"],
        ["system", "human", "gpt", "human"],
    ]
    assert told[0][3]["value"] == f"See {IMAGE}"
    assert orjson.loads(told[1][4]["value"]) == [{"name": "weather", "arguments": '{"city": "Köln"}'}]
    records = [sharegpt_record(record) for record in exported(session, account)]
    delete(session, account)
    result = brought(session, account, records)
    assert result.conversations == 3, "that a beginning was shared is not said there"
    again = [sharegpt_record(record) for record in exported(session, account)]
    key = orjson.dumps
    assert sorted(key(each["conversations"]) for each in again) == sorted(
        key(each["conversations"]) for each in records
    )


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([], "a JSON object"),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [said("a\0b")]}, "NUL"),
        ({"messages": [said("a")], "metadata": {"a": 1}}, "metadata.a"),
        ({"messages": "x"}, "messages"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "conversations[0].from"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "conversations[0].value"),
        ({"conversations": [{"from": "function_call", "value": '{"name": 1}'}]}, "name"),
        ({"conversations": [{"from": "human", "value": "x"}], "tools": "x"}, "tools"),
        ({"messages": [said("a")], "tramontane": {}}, "tramontane"),
    ],
)
def test_what_no_request_could_say_is_not_a_record(record, says):
    with pytest.raises(InvalidRequest) as caught:
        parsed(record)
    assert says in caught.value.message


def provenance(**turn):
    facts = {"id": "conv_01ja7q2v7d4m9t8b3x6k5n0w1z", "created_ms": NOW, "updated_ms": NOW}
    return {
        "conversation": facts,
        "turns": [{"message": 1, "model": "m", "created_ms": NOW, "finish_reason": "stop"} | turn],
    }


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        ({"message": 9}, "turns[0].message"),
        ({"message": 0}, "finish_reason"),
        ({"finish_reason": None}, "finish_reason"),
        ({"parameters": {"service_tier": "best"}}, "service_tier"),
        ({"parameters": {"temperature": 99}}, "temperature"),
        ({"state": "queued"}, "state"),
        ({"created_ms": 1 << 60}, "created_ms"),
    ],
)
def test_what_we_could_not_have_written_is_refused(turn, says):
    with pytest.raises(InvalidRequest) as caught:
        parsed({"messages": [said("a"), reply("b")], "tramontane": provenance(**turn)})
    assert says in caught.value.message


def test_an_id_of_anothers_is_not_taken(session, account):
    record = {"messages": [said("a"), reply("b")], "tramontane": provenance()}
    other = create_account(session, "bob", NOW)
    brought(session, other, [record])
    brought(session, account, [record])
    mine = session.scalars(select(Conversation).where(Conversation.account_id == account)).one()
    assert mine.id != record["tramontane"]["conversation"]["id"]
    assert len(exported(session, other)) == 1


def test_two_answers_of_one_millisecond_are_both_kept(session, account):
    records = [{"messages": [said("a"), reply(text)], "tramontane": provenance()} for text in "bc"]
    brought(session, account, records)
    assert sorted(record["messages"][1]["content"] for record in exported(session, account)) == ["b", "c"]
    assert counts(session) == (3, 2, 2, 1)


def table_bytes(session):
    """What messages and jobs take: pages of SQLite's file; of Postgres rows, since what an open job held stays for vacuum."""
    if session.get_bind().dialect.name == "sqlite":
        rows = "SELECT sum(pgsize) FROM dbstat WHERE name IN ('messages', 'jobs')"
    else:
        each = "(SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM {} t)"
        rows = f"SELECT {each.format('messages')} + {each.format('jobs')}"
    return session.scalar(text(rows))


def test_a_conversation_of_a_hundred_turns_takes_the_bytes_of_a_hundred(session, account):
    """And not of the 5,050 that were sent: by what the database says of its tables."""
    dice, kib = random.Random(7), 1024
    before, messages = table_bytes(session), []
    for number in range(100):
        messages.append(said(f"{number} {dice.randbytes(kib // 2).hex()}"))
        asked(session, account, messages, f"answer {number}", parameters={})
        messages.append(reply(f"answer {number}"))
    session.flush()
    taken, sent_once = table_bytes(session) - before, sum(len(each["content"]) for each in messages)
    assert sent_once > 100 * kib
    assert taken < 2 * sent_once, "the messages once, and three rows a turn"
