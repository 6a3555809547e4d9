"""Which stored completions become questions: those that the filters find, the account's own, and none that was made to be graded."""

import orjson
import pytest
from sqlalchemy import select, update

from models import branches, logged
from models.accounts import create_account
from models.deletions import delete_job
from models.errors import InvalidRequest, TooLarge
from models.tables import base
from models.tables.jobs import Door, Job
from models.wire.evals import StoredCompletions
from tests.models.conftest import NOW, asked, said

SECOND = NOW // 1000


@pytest.fixture
def spoken(session, account):
    """A chat of two turns, and one of another model."""
    first = asked(session, account, [said("a")], "b", id=f"job_{1:026}", meta={"k": "v"})
    history = [said("a"), said("b", "assistant"), said("c")]
    second = asked(session, account, history, "d", "e", id=f"job_{2:026}", meta={"k": "v", "l": "w"})
    third = asked(session, account, [said("x")], "y", id=f"job_{3:026}", model="other", created_ms=NOW + 5_000)
    return first, second, third


def found(session, account, meta=(), **filters):
    return logged.items(session, account, StoredCompletions(type="stored_completions", **filters), dict(meta))


def test_a_completion_becomes_an_item_with_its_prompt_and_the_answer_it_had(session, account, spoken):
    second = found(session, account)[1]
    name = f"chatcmpl-{2:026}"
    assert second.item == {
        "id": name,
        "model": "mistral-small",
        "input": [said("a"), said("b", "assistant"), said("c")],
        "output": "d",
        "metadata": {"k": "v", "l": "w"},
        "created_at": SECOND,
    }
    assert [choice["message"]["content"] for choice in second.given["choices"]] == ["d", "e"]
    assert second.where == name


@pytest.mark.parametrize(
    ("filters", "meta", "numbers"),
    [
        ({}, {}, [1, 2, 3]),
        ({"model": "other"}, {}, [3]),
        ({"metadata": {"k": "v"}}, {}, [1, 2]),
        ({"metadata": {"k": "v"}}, {"l": "w"}, [2]),
        ({"created_after": SECOND + 1}, {}, [3]),
        ({"created_before": SECOND}, {}, [1, 2]),
        ({"limit": 2}, {}, [2, 3]),
    ],
)
def test_filters_find_some_of_them(session, account, spoken, filters, meta, numbers):
    assert [each.item["id"] for each in found(session, account, meta, **filters)] == [
        f"chatcmpl-{number:026}" for number in numbers
    ]


def test_what_is_anothers_deleted_replayed_or_graded_is_not_found(session, account, spoken):
    delete_job(session, spoken[0], NOW)
    asked(session, account, [said("a")], "b", door=Door.REPLAY, batch_id="rpl_1")
    asked(session, account, [said("a")], "b", door=Door.EVAL, batch_id="evalrun_1")
    asked(session, account, [said("a")], "b", store=False)
    assert [each.item["id"][-1] for each in found(session, account)] == ["2", "3"]
    with pytest.raises(InvalidRequest, match="no stored completion"):
        found(session, create_account(session, "eve", NOW))


def test_too_many_are_not_cut_in_silence(session, account, spoken, monkeypatch):
    monkeypatch.setattr(logged, "ITEMS_MOST", 2)
    with pytest.raises(InvalidRequest, match="say how many") as wrong:
        found(session, account)
    assert wrong.value.param == "data_source.source.limit"


def test_so_much_is_taken_as_may_be_held(session, account, spoken, monkeypatch):
    monkeypatch.setattr(
        logged, "MOST_BYTES", sum(len(orjson.dumps((e.item, e.given))) for e in found(session, account))
    )
    assert len(found(session, account)) == 3
    monkeypatch.setattr(logged, "MOST_BYTES", logged.MOST_BYTES - 1)
    with pytest.raises(TooLarge, match="of the newest") as refused:
        found(session, account)
    assert refused.value.param == "data_source.source.limit"
    assert len(found(session, account, limit=2)) == 2


@pytest.fixture
def streams(session, spoken, monkeypatch):
    """Those that are read from the rows of jobs, each of which has one."""
    session.execute(update(Job).values(result={"chunks": ["a"]}))
    session.expire_all()
    seen, unpack = [], base.unpack

    def noted(stored):
        found = unpack(stored)
        seen.extend([found] * (isinstance(found, dict) and "chunks" in found))
        return found

    monkeypatch.setattr(base, "unpack", noted)
    return seen


def test_what_was_streamed_of_them_is_not_read(session, account, streams):
    assert len(found(session, account)) == 3
    assert streams == []


def test_nor_where_a_conversation_is_looked_at(session, spoken, streams):
    conversation = session.scalar(select(Job.conversation_id).where(Job.id == spoken[0]))
    assert len(branches.told(session, conversation).turns) == 2
    assert streams == []
