"""Do the scripts in `examples/` do what they show?  The demo's steps, on the stack of the tests instead of one of their own."""

import importlib
from pathlib import Path

import pytest

from tests.flow.stack import Stack

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("demo")


@pytest.mark.engine
def test_every_step_of_the_demo_shows_what_it_must(demo, stack: Stack) -> None:
    tram = demo.Client(stack.url, stack.key)
    try:
        rows = [step(tram) for step in demo.STEPS]
    finally:
        tram.close()
    assert [row.what for row in rows if row.cached] == ["conversation"]
    assert all(row.total > 0 for row in rows)
    demo.summarise(rows)


def test_a_step_that_shows_something_else_fails(demo) -> None:
    with pytest.raises(demo.Failed, match="it was so"):
        demo.must([], "it was so")


def test_what_may_go_wrong_names_a_log(demo, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker.log").write_text("the worker's last words\n")
    monkeypatch.setattr(demo, "FILES", tmp_path)
    assert demo.tell(demo.Failed("it was [so]")) == 1
    told = capsys.readouterr().out
    assert "it was [so]" in told
    assert "the worker's last words" in told
