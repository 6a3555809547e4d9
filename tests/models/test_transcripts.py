"""Every message is stored once, every turn finds the one it continues, and no account meets another's."""

from itertools import pairwise

import pytest
from sqlalchemy import event, func, select

from models import conversations, jobs, transcripts
from models.accounts import create_account
from models.conversations import TITLE_CHARACTERS
from models.handover import Ending
from models.lifecycle import FINAL, JobState
from models.packing import pack
from models.prefix import chain
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn
from models.transcripts import Spoken
from tests.models.conftest import NOW, asked, ended, row, running, said, submitted

TURNS = 100
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]


def reply(text):
    return said(text, "assistant")


def count(session, table):
    return session.scalar(select(func.count()).select_from(table))


def turn(session, job_id):
    return session.get_one(Turn, job_id)


def conversation_of(session, job_id):
    found = turn(session, job_id).conversation_id
    assert row(session, job_id).conversation_id == found
    return found


def told(session, job_id):
    """The whole prompt, from the tree."""
    tip = turn(session, job_id).prompt
    return transcripts.path(transcripts.tree_above(session, [tip]), tip)


def test_a_long_conversation_stores_each_message_once(session, account):
    messages, last = [], None
    for number in range(TURNS):
        messages.append(said(f"question {number}"))
        job = asked(session, account, messages, f"answer {number}")
        assert turn(session, job).parent_job_id == last
        messages.append(reply(f"answer {number}"))
        last = job
    assert (count(session, Message), count(session, Turn), count(session, Conversation)) == (2 * TURNS, TURNS, 1)
    assert told(session, last) == messages[:-1]
    depths = session.scalars(select(Message.depth).order_by(Message.depth)).all()
    assert depths == list(range(2 * TURNS))


def test_a_long_conversation_costs_what_its_messages_take_and_no_more(session, account):
    """By bytes over all documents in all rows: what is sent again with every turn is not kept again with every turn."""
    messages = []
    for number in range(TURNS):
        messages += [said(f"question {number}"), reply(f"answer {number}")]
        asked(session, account, messages[:-1], f"answer {number}", parameters={})
    documents = (Job.parameters, Job.messages, Job.chain, Job.result, Message.content)
    kept = sum(session.scalar(select(func.coalesce(func.sum(func.length(each)), 0))) for each in documents)
    assert kept <= sum(len(pack(message)) for message in messages) + TURNS * (len(pack({})) + len(pack(["0" * 32])))


def test_a_late_turn_asks_the_database_no_more_than_an_early_one(session, account):
    engine, asks = session.get_bind(), []

    def note(connection, cursor, statement, *_):
        asks[-1] += 1

    event.listen(engine, "before_cursor_execute", note)
    messages = []
    for number in range(20):
        asks.append(0)
        messages += [said(f"question {number}"), reply(f"answer {number}")]
        asked(session, account, messages[:-1], f"answer {number}")
    event.remove(engine, "before_cursor_execute", note)
    assert len(set(asks[1:])) == 1


def test_a_prompt_longer_than_one_query_can_ask_for_is_threaded_and_stored(session, account):
    """Above the number of hashes in one statement, the new messages on either side of the border."""
    history = [said(f"{number}", "user" if number % 2 else "system") for number in range(2 * transcripts._BATCH + 3)]
    first = asked(session, account, history, "answer")
    again = asked(session, account, [*history, reply("answer"), said("and?")], "more")
    assert turn(session, again).parent_job_id == first
    assert count(session, Message) == len(history) + 3
    assert told(session, again) == [*history, reply("answer"), said("and?")]


def test_an_early_answer_is_found_far_above_the_last_question(session, account):
    first = asked(session, account, [said("hello")], "hi")
    more = [said(f"{number}") for number in range(transcripts._BATCH)]
    again = asked(session, account, [said("hello"), reply("hi"), *more], "ok")
    assert turn(session, again).parent_job_id == first


def test_a_conversation_begins_with_a_prompt_that_continues_nothing(session, account):
    one = asked(session, account, [said("hello")], "hi")
    other = asked(session, account, [said("hello")], "hi there")
    assert conversation_of(session, one) != conversation_of(session, other)
    assert turn(session, other).parent_job_id is None
    assert count(session, Message) == 3


def test_words_the_client_made_up_do_not_thread(session, account):
    asked(session, account, [said("hello")], "hi")
    other = asked(session, account, [said("hello"), reply("HI"), said("more")], "ok")
    assert turn(session, other).parent_job_id is None


def test_two_ways_on_from_one_answer_are_one_conversation(session, account):
    root = asked(session, account, [said("hello")], "hi", at_ms=NOW + 1)
    left = asked(session, account, [said("hello"), reply("hi"), said("left")], "l", at_ms=NOW + 2)
    right = asked(session, account, [said("hello"), reply("hi"), said("right")], "r", at_ms=NOW + 3)
    assert turn(session, left).parent_job_id == turn(session, right).parent_job_id == root
    assert len({conversation_of(session, job) for job in (root, left, right)}) == 1
    assert count(session, Message) == 6
    conversation = session.scalars(select(Conversation)).one()
    assert (conversation.created_ms, conversation.updated_ms) == (NOW, NOW + 3)
    assert told(session, left) == [said("hello"), reply("hi"), said("left")]


def test_the_deepest_answer_on_the_path_is_the_one_continued(session, account):
    history = [said("a"), reply("b"), said("c"), reply("d")]
    asked(session, account, history[:1], "b")
    second = asked(session, account, history[:3], "d")
    third = asked(session, account, [*history, said("e")], "f")
    assert turn(session, third).parent_job_id == second


def test_of_two_turns_with_the_same_answer_the_latest_is_continued(session, account):
    asked(session, account, [said("hello")], "hi", id="job_" + "1" * 26)
    latest = asked(session, account, [said("hello")], "hi", id="job_" + "2" * 26)
    following = asked(session, account, [said("hello"), reply("hi"), said("more")], "ok")
    assert turn(session, following).parent_job_id == latest


def test_a_replay_is_a_branch_that_takes_nothing_over(session, account):
    source = asked(session, account, [said("hello")], "hi")
    home = conversation_of(session, source)
    replay = asked(
        session,
        account,
        [said("hello")],
        "hi",
        door=Door.REPLAY,
        batch_id="rpl_1",
        source_job_id=source,
        conversation_id=home,
    )
    assert turn(session, replay).replay
    assert turn(session, replay).parent_job_id == source
    assert conversation_of(session, replay) == home
    following = asked(session, account, [said("hello"), reply("hi"), said("more")], "ok")
    assert turn(session, following).parent_job_id == source
    assert count(session, Message) == 4


def test_what_only_a_replay_has_answered_can_be_continued_all_the_same(session, account):
    source = asked(session, account, [said("hello")], "hi")
    home = conversation_of(session, source)
    replay = asked(
        session, account, [said("hello")], "hey", batch_id="rpl_1", source_job_id=source, conversation_id=home
    )
    following = asked(session, account, [said("hello"), reply("hey"), said("more")], "ok")
    assert turn(session, following).parent_job_id == replay


def test_a_conversation_that_the_client_names_is_kept_to(session, account):
    first = asked(session, account, [said("hello")], "hi")
    home = conversation_of(session, first)
    other = asked(session, account, [said("something else")], "well", conversation_id=home, at_ms=NOW + 9)
    assert conversation_of(session, other) == home
    assert turn(session, other).parent_job_id is None
    assert count(session, Conversation) == 1
    assert session.scalars(select(Conversation.updated_ms)).one() == NOW + 9


def test_every_choice_can_be_continued(session, account):
    job = asked(session, account, [said("hello")], "hi", "hey", "hi")
    assert count(session, Message) == 3  # two of the three choices say the same
    answers = transcripts.answers_of(session, [job])[job]
    assert [(answer.choice, message["content"]) for answer, message in answers] == [(0, "hi"), (1, "hey"), (2, "hi")]
    for text in ("hi", "hey"):
        following = asked(session, account, [said("hello"), reply(text), said("more")], "ok")
        assert turn(session, following).parent_job_id == job


def test_calls_of_tools_thread_and_keep_what_crossed_the_wire(session, account):
    calling = {"role": "assistant", "content": None, "tool_calls": CALLS}
    job = running(session, account, [said("weather and time?")])
    jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW, answers=[Spoken(calling, "tool_calls")]))
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "7"} for call in CALLS]
    sent_back = {"role": "assistant", "tool_calls": CALLS}  # clients leave null content out
    following = asked(session, account, [said("weather and time?"), sent_back, *results], "It is 7.")
    assert turn(session, following).parent_job_id == job
    assert told(session, following) == [said("weather and time?"), calling, *results]
    ((answer, message),) = transcripts.answers_of(session, [job])[job]
    assert (answer.finish_reason, message) == ("tool_calls", calling)


def test_a_text_in_parts_is_the_message_that_is_already_there(session, account):
    first = asked(session, account, [said("hello world")], "hi")
    parts = [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]
    following = asked(session, account, [{"role": "user", "content": parts}, reply("hi"), said("more")], "ok")
    assert turn(session, following).parent_job_id == first
    assert told(session, following)[0] == said("hello world")


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_turn_without_an_answer_is_kept_with_its_prompt(session, account, state):
    job = ended(session, account, state)
    assert told(session, job) == [said("hello")]
    assert transcripts.answers_of(session, [job]) == {job: []}
    assert count(session, Answer) == 0


def test_an_answer_that_was_cut_off_can_be_continued(session, account):
    job = running(session, account, [said("hello")])
    jobs.finish(session, job, 1, Ending(JobState.CANCELLED, NOW, answers=[Spoken(reply("h"), "cut_off")]))
    following = asked(session, account, [said("hello"), reply("h"), said("go on")], "i")
    assert turn(session, following).parent_job_id == job


def test_two_accounts_that_say_the_same_share_nothing(session, account):
    other = create_account(session, "bob", NOW)
    words = [said("hello"), reply("hi"), said("more")]
    mine = [asked(session, account, words[:1], "hi"), asked(session, account, words, "ok")]
    assert count(session, Message) == 4
    theirs = [asked(session, other, words, "ok"), asked(session, other, words[:1], "hi")]
    assert count(session, Message) == 8
    assert {conversation_of(session, job) for job in mine}.isdisjoint(conversation_of(session, job) for job in theirs)
    assert all(turn(session, job).parent_job_id is None for job in theirs)
    assert turn(session, mine[1]).parent_job_id == mine[0]
    home = conversation_of(session, mine[0])
    assert conversations.find(session, other, home) is None
    assert conversations.find(session, account, home).id == home


def test_accounts_that_share_a_salt_still_have_conversations_of_their_own(session, account):
    """An operator may let accounts share the engine's cache; that must not let one read what the other has said."""
    other = create_account(session, "bob", NOW)
    session.get_one(Account, other).salt = session.get_one(Account, account).salt
    session.flush()
    mine = asked(session, account, [said("hello")], "hi")
    theirs = asked(session, other, [said("hello"), reply("hi"), said("more")], "ok")
    assert conversation_of(session, theirs) != conversation_of(session, mine)
    assert turn(session, theirs).parent_job_id is None
    assert conversations.find(session, other, conversation_of(session, theirs)) is not None


def test_a_path_ends_behind_the_first_message_that_is_known(session, account):
    words = [said("a"), reply("b"), said("c")]
    job = asked(session, account, words, "d")
    names = chain(session.get_one(Account, account).salt, words)
    tree = transcripts.tree_above(session, names[-1:])
    assert set(tree) == set(names)
    assert tree[names[0]].parent is None
    assert all(tree[below].parent == above for above, below in pairwise(names))
    tip = turn(session, job).prompt
    assert transcripts.path(tree, tip) == words
    assert transcripts.path(tree, tip, {names[1]}) == words[2:]
    assert transcripts.path(tree, tip, {names[0], names[1]}) == words[2:]
    assert transcripts.path(tree, tip, {tip}) == []


def test_the_tree_above_two_tips_has_their_common_part_once(session, account):
    left = asked(session, account, [said("a"), reply("b"), said("left")], "l")
    right = asked(session, account, [said("a"), reply("b"), said("right")], "r")
    asked(session, account, [said("elsewhere")], "x")
    tree = transcripts.tree_above(session, [turn(session, left).prompt, turn(session, right).prompt])
    assert sorted(node.message["content"] for node in tree.values()) == ["a", "b", "left", "right"]
    assert transcripts.tree_above(session, []) == {}
    assert transcripts.tree_above(session, ["0" * 32]) == {}


def test_the_turns_of_a_conversation_come_in_order_each_with_its_job(session, account):
    history, made = [], []
    for number in range(3):
        history.append(said(f"{number}"))
        made.append(asked(session, account, history, "ok", id=f"job_{number:026}"))
        history.append(reply("ok"))
    asked(session, account, [said("elsewhere")], "ok")
    found = transcripts.turns(session, conversation_of(session, made[0]))
    assert [(each.job_id, job.id) for each, job in found] == [(job, job) for job in made]


def test_a_job_that_still_waits_has_no_turn(session, account):
    submitted(session, account)
    running(session, account)
    assert (count(session, Turn), count(session, Message)) == (0, 0)


@pytest.mark.parametrize(
    ("messages", "title"),
    [
        ([said("Be brief.", "system"), said("  How\n are  you? ")], "How are you?"),
        ([said("Be brief.", "system")], ""),
        ([said("x" * TITLE_CHARACTERS)], "x" * TITLE_CHARACTERS),
        ([said("x" * (TITLE_CHARACTERS + 1))], "x" * (TITLE_CHARACTERS - 1) + "…"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}],
            "in parts",
        ),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}], "(image)"),
        ([{"role": "assistant", "content": "hi"}, said("first question"), said("second")], "first question"),
    ],
)
def test_a_conversation_is_called_by_its_first_question(session, account, messages, title):
    asked(session, account, messages, "ok", meta={"topic": "wind"})
    conversation = session.scalars(select(Conversation)).one()
    assert (conversation.title, conversation.meta) == (title, {"topic": "wind"})
