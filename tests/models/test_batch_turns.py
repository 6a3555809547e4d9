"""Whose batches go on, and is nobody kept waiting by somebody who has many?  On both databases."""

from models import batch_turns, batches
from models.accounts import create_account
from models.batch_turns import LEASE_MS, RENEWED_MS, Turns
from models.batches import NewBatch, NewRow
from models.tables.batches import Batch, BatchKind
from tests.models.conftest import NOW


def begin(session, account, *names):
    for name in names:
        batches.begin(session, NewBatch(name, account, BatchKind.FILE, {}, NOW))


def test_of_each_account_as_many_are_taken_as_of_the_others(session, account, monkeypatch):
    monkeypatch.setattr(batch_turns, "TAKEN_MOST", 3)
    bob = create_account(session, "bob", NOW)
    begin(session, account, *(f"batch_a{number}" for number in range(5)))
    begin(session, bob, "batch_b0")
    first = batch_turns.take(session, "me", NOW)
    assert first == {"batch_a0": account, "batch_a1": account, "batch_b0": bob}
    assert list(batch_turns.take(session, "you", NOW)) == ["batch_a2", "batch_a3", "batch_a4"]


def test_its_own_are_kept_however_many_and_others_come_to_them(session, account, monkeypatch):
    monkeypatch.setattr(batch_turns, "TAKEN_MOST", 2)
    begin(session, account, *(f"batch_{number}" for number in range(5)))
    assert [len(batch_turns.take(session, "me", NOW + at)) for at in range(4)] == [2, 4, 5, 5]


def test_a_lease_is_renewed_before_it_ends_and_not_at_every_look(session, account):
    begin(session, account, "batch_1")
    for at in (NOW, NOW + RENEWED_MS):
        batch_turns.take(session, "me", at)
        assert session.get_one(Batch, "batch_1", populate_existing=True).lease_until_ms == NOW + LEASE_MS
    late = NOW + RENEWED_MS + 1
    batch_turns.take(session, "me", late)
    assert session.get_one(Batch, "batch_1", populate_existing=True).lease_until_ms == late + LEASE_MS


def test_one_that_has_ended_is_nobody_s(session, account):
    begin(session, account, "batch_1", "batch_2")
    batch_turns.take(session, "me", NOW)
    session.get_one(Batch, "batch_2").ended_ms = NOW
    session.flush()
    assert list(batch_turns.take(session, "me", NOW)) == ["batch_1"]


def test_whose_last_turn_is_the_longest_ago_comes_next(monkeypatch):
    monkeypatch.setattr(batch_turns, "AT_ONCE", 2)
    held, turns = dict.fromkeys("abcde", "ada") | {"z": "bob"}, Turns()
    turns.hold(held)
    assert turns.next(()) == ["a", "b", "z"]
    turns.hold({"e": "ada", "f": "ada"} | held)
    assert turns.next({"a"}) == ["c", "z"], "with what is busy, two of one account"
    assert turns.next(()) == ["d", "e", "z"]
    turns.hold({name: held[name] for name in "abe"})
    assert turns.next(()) == ["a", "b"], "which may be over or another feeder's is forgotten"


def test_an_account_s_window_is_shared_by_its_batches_and_each_has_some():
    turns = Turns()
    assert turns.share("ada") == batch_turns.WINDOW
    for many, share in ((1, batch_turns.WINDOW), (2, batch_turns.WINDOW // 2), (1000, batch_turns.LEAST)):
        turns.hold({str(number): "ada" for number in range(many)} | {"z": "bob"})
        assert (turns.share("ada"), turns.share("bob")) == (share, batch_turns.WINDOW)


def test_rows_come_in_their_place_and_of_long_ones_fewer(session, account, monkeypatch):
    begin(session, account, "batch_1")
    body = {"messages": [{"role": "user", "content": "a" * 90}]}
    batches.add(session, "batch_1", [NewRow(number, body, place=9 - number) for number in range(10)])
    assert [row.number for row in batch_turns.next_rows(session, "batch_1", 3)] == [9, 8, 7]
    monkeypatch.setattr(batch_turns, "READ_BYTES", 200)
    assert [row.number for row in batch_turns.next_rows(session, "batch_1", 10)] == [9, 8]
    monkeypatch.setattr(batch_turns, "READ_BYTES", 1)
    assert [row.number for row in batch_turns.next_rows(session, "batch_1", 10)] == [9]
    batches.drop(session, "batch_1", {"code": "x"})
    assert batch_turns.next_rows(session, "batch_1", 10) == []
