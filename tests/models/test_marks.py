"""Conversations are found by what was said in them, by whoever said it, and by nothing that was deleted."""

import pytest
from sqlalchemy import func, select

from models import conversations, deletions, marks
from models.accounts import create_account
from models.lifecycle import JobState
from models.listings import Window
from models.marks import Marker, asked_words, words
from models.searches import WORDS_MOST, Wanted, found
from models.tables.access import Account
from models.tables.jobs import Door
from models.tables.transcripts import Conversation, Mark, Message, Turn
from tests.models.conftest import NOW, asked, chooses_by_words, ended, plan_of, row, said

HOSTILE = (
    "'",
    '"',
    "%",
    "_",
    "*",
    "a OR b",
    "NEAR(a b)",
    "a AND NOT b",
    "-a",
    "a*",
    '"a',
    "a:b",
    "(",
    "\\",
    "; DROP",
    "🙂",
)


def marker_of(session, account):
    return Marker(account, session.get_one(Account, account).salt)


def sweep(session):
    while marks.sweep(session) == marks.SWEEP_MOST:
        pass
    session.flush()


def ids_of(session, account, window=None, **wanted):
    page = found(session, marker_of(session, account), Wanted(**wanted), window or Window())
    return [conversation.id for conversation in page.rows]


def home(session, job):
    return row(session, job).conversation_id


def reply(text):
    return said(text, "assistant")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("Köln straße", ["koln", "strasse"]),
        ("don't x_y 3.14", ["don", "t", "x", "y", "3", "14"]),
        ("東京へ go", ["東", "京", "へ", "東京", "京へ", "go"]),
        ("", []),
        ("!!! …", []),
    ],
)
def test_words_are_folded(text, expected):
    assert list(words(text)) == expected


def test_of_a_script_without_spaces_pairs_are_asked_for():
    assert asked_words("東京へ") == {"東京", "京へ"}
    assert asked_words("東") == {"東"}
    assert asked_words("a ab") == {"a", "ab"}


def test_a_conversation_is_found_by_its_words_its_model_its_tag_and_its_end(session, account):
    job = asked(session, account, [said("Where is the Eiffel tower?")], "In Paris.", tag="travel", model="tiny")
    other = asked(session, account, [said("Tell me a joke")], "No.", meta={"kind": "fun"})
    assert ids_of(session, account, text="paris") == [], "nobody has marked it yet"
    sweep(session)
    for wanted in (
        {"text": "eiffel PARIS"},
        {"text": "Tower,"},
        {"tag": "travel"},
        {"model": "tiny"},
        {"text": "paris", "tag": "travel", "model": "tiny", "status": "completed"},
    ):
        assert ids_of(session, account, **wanted) == [home(session, job)], wanted
    assert ids_of(session, account, metadata={"kind": "fun"}) == [home(session, other)]
    assert sorted(ids_of(session, account, status="completed")) == sorted([home(session, job), home(session, other)])
    for wanted in ({"text": "eiffel joke"}, {"text": "eif"}, {"status": "failed"}, {"metadata": {"kind": "fu"}}):
        assert ids_of(session, account, **wanted) == [], wanted


def test_no_account_finds_anothers(session, account):
    other = create_account(session, "bob", NOW)
    session.get_one(Account, other).salt = session.get_one(Account, account).salt
    session.flush()
    mine = asked(session, account, [said("secret plan")], "ok")
    asked(session, other, [said("secret plan")], "ok")
    sweep(session)
    assert ids_of(session, account, text="secret") == [home(session, mine)]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_looks_like_a_query_is_words(session, account, text):
    asked(session, account, [said("a b")], "c")
    sweep(session)
    assert len(ids_of(session, account, text=text)) == (text in {"-a", "a*", '"a', "a:b"})


def test_too_many_words_are_refused(session, account):
    with pytest.raises(Exception, match="at most 20 words"):
        ids_of(session, account, text=" ".join(map(str, range(WORDS_MOST + 1))))
    assert ids_of(session, account, text="x " * 400) == []


def test_tool_calls_and_parts_of_messages_are_found_and_pictures_are_not(session, account):
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bari"}'}}
    parts = [{"type": "text", "text": "what is"}, {"type": "image_url", "image_url": {"url": "data:zebra"}}]
    history = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    job = asked(session, account, history, "fine")
    sweep(session)
    assert ids_of(session, account, text="weather bari sunny what fine") == [home(session, job)]
    assert ids_of(session, account, text="zebra") == []


def test_a_turn_marks_only_what_it_brings(session, account, monkeypatch):
    messages, brought = [], []
    real = marks._brought
    monkeypatch.setattr(marks, "_brought", lambda *args: brought.append([*real(*args)]) or brought[-1])
    for number in range(5):
        messages += [said(f"q{number}"), reply(f"a{number}")]
        asked(session, account, messages[:-1], f"a{number}", at_ms=NOW + number)
        sweep(session)
    assert [len(each) for each in brought] == [2] * 5
    assert len(ids_of(session, account, text="q0 a4")) == 1


def test_a_turn_of_another_conversation_above_it_brings_all_its_path(session, account):
    first = asked(session, account, [said("alpha")], "beta")
    named = asked(session, account, [said("alpha"), reply("beta"), said("gamma")], "delta", conversation_name="mine")
    sweep(session)
    assert home(session, first) != home(session, named)
    assert ids_of(session, account, text="alpha delta") == [home(session, named)]


def test_a_replay_with_another_system_prompt_is_found_by_it(session, account):
    source = asked(session, account, [said("hello")], "hi")
    asked(
        session,
        account,
        [said("pirate", "system"), said("hello")],
        "arr",
        door=Door.REPLAY,
        batch_id="rpl_1",
        source_job_id=source,
        conversation_id=home(session, source),
    )
    sweep(session)
    assert ids_of(session, account, text="pirate arr") == [home(session, source)]


def test_a_new_title_is_found_at_once_and_the_old_one_no_more_after_a_sweep(session, account):
    job = asked(session, account, [said("hello")], "hi", meta={"a": "1"})
    sweep(session)
    name = home(session, job)
    conversations.change(session, account, name, {"title": "First name", "meta": {"a": "2"}}, NOW + 5)
    assert ids_of(session, account, text="first hello", metadata={"a": "2"}) == [name]
    conversations.change(session, account, name, {"title": "Second"}, NOW + 6)
    sweep(session)
    assert ids_of(session, account, text="first") == []
    assert ids_of(session, account, metadata={"a": "1"}) == []
    assert ids_of(session, account, text="second hello hi", metadata={"a": "2"}) == [name]


def test_a_deleted_turn_is_found_no_more_and_the_rest_again_after_a_sweep(session, account):
    first = asked(session, account, [said("alpha")], "beta")
    second = asked(session, account, [said("alpha"), reply("beta"), said("gamma")], "delta")
    sweep(session)
    name = home(session, first)
    deletions.delete_job(session, second, NOW)
    session.expire_all()
    assert ids_of(session, account, text="gamma") == []
    sweep(session)
    assert ids_of(session, account, text="gamma") == []
    assert ids_of(session, account, text="alpha beta") == [name]
    deletions.delete_job(session, first, NOW)
    assert session.scalar(select(func.count()).select_from(Mark)) == 0


def test_marks_tell_no_word(session, account):
    asked(session, account, [said("a secret")], "hidden")
    sweep(session)
    kept = session.execute(select(Mark.mark, Mark.conversation_id)).all()
    assert kept
    assert not any("secret" in str(each) or "hidden" in str(each) for each in kept)


def test_pages_of_a_search_meet_every_conversation_once(session, account):
    jobs = [asked(session, account, [said(f"common {n}")], "ok", created_ms=NOW + n) for n in range(7)]
    ended(session, account, JobState.FAILED)
    sweep(session)
    expected = [home(session, job) for job in jobs]
    for wanted in ({"text": "common"}, {"text": "common ok"}, {"text": "common", "by_update": True}):
        for ascending in (True, False):
            seen, after = [], None
            while page := ids_of(session, account, Window(after, 2, ascending), **wanted):
                seen += page
                after = page[-1]
            assert sorted(seen) == sorted(expected)
            if not wanted.get("by_update"):
                assert seen == (expected if ascending else expected[::-1])


def test_times_narrow_a_list(session, account):
    jobs = [
        asked(session, account, [said(f"at {n}")], "ok", created_ms=NOW + 1000 * n, at_ms=NOW + 50_000 - 1000 * n)
        for n in range(5)
    ]
    sweep(session)
    names = [home(session, job) for job in jobs]
    assert ids_of(session, account, created_after_ms=NOW + 2000) == names[:1:-1]
    assert (
        ids_of(session, account, created_after_ms=NOW + 1000, created_before_ms=NOW + 3000, text="ok") == names[2:0:-1]
    )
    assert ids_of(session, account, updated_after_ms=NOW + 48_000) == names[:3]
    assert ids_of(session, account, updated_before_ms=NOW + 48_000, text="ok") == names[3:]
    assert ids_of(session, account, by_update=True) == names


def test_a_name_is_one_conversation_made_when_it_is_first_used(session, account):
    first = asked(session, account, [said("hello")], "hi", conversation_name="support-42")
    other = asked(session, account, [said("something else")], "well", conversation_name="support-42", at_ms=NOW + 9)
    assert home(session, first) == home(session, other)
    conversation = conversations.called(session, account, "support-42")
    assert (conversation.id, conversation.updated_ms) == (home(session, first), NOW + 9)
    assert ids_of(session, account, name="support-42") == [conversation.id]
    bob = create_account(session, "bob", NOW)
    theirs = asked(session, bob, [said("hello")], "hi", conversation_name="support-42")
    assert home(session, theirs) != conversation.id
    following = asked(session, account, [said("hello"), reply("hi"), said("more")], "ok")
    assert home(session, following) == conversation.id, "and goes on by its prefix, without the name"


def test_an_empty_conversation_is_made_once_for_its_name(session, account):
    made = conversations.create(session, account, {"name": "mine", "meta": {"k": "v"}}, NOW)
    assert conversations.create(session, account, {"name": "mine"}, NOW + 1).id == made.id
    assert ids_of(session, account, metadata={"k": "v"}) == [made.id]
    assert conversations.create(session, account, {}, NOW + 1).id != made.id


GOES_BY = {
    "pk_marks": {"text": "word"},
    "ix_conversations_updated": {"updated_after_ms": NOW},
}


@pytest.mark.parametrize("index", GOES_BY)
@pytest.mark.parametrize("after", [None, "conv_01aryz6s41"])
def test_a_page_of_a_search_is_an_index_range_and_never_a_sort(session, account, index, after):
    window, marker = Window(after, 20), marker_of(session, account)
    plan = plan_of(session, lambda session: found(session, marker, Wanted(**GOES_BY[index]), window)).lower()
    named = index in plan or (index == "pk_marks" and "search marks using primary key (mark=?" in plan)
    assert named or not chooses_by_words(session), plan
    assert "sort" not in plan
    assert "temp b-tree" not in plan
    assert "scan" not in plan.replace("index only scan", "").replace("index scan", "").replace("bitmap", "")


def test_a_created_time_is_a_place_in_the_index(session, account):
    marker = marker_of(session, account)
    plan = plan_of(session, lambda session: found(session, marker, Wanted(created_after_ms=NOW), Window()))
    assert "ix_conversations_list" in plan


def test_the_sweep_goes_by_what_is_not_marked(session, account):
    plan = plan_of(session, marks.sweep)
    assert "ix_turns_unmarked" in plan or not chooses_by_words(session)


def test_nothing_else_was_written(session, account):
    asked(session, account, [said("hello")], "hi")
    before = [session.scalar(select(func.count()).select_from(each)) for each in (Message, Turn, Conversation, Mark)]
    assert before == [2, 1, 1, 0], "recording a turn marks nothing"
