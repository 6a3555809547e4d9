"""Is a report one page that needs nothing, runs nothing of a stranger's, and stays usable with many items?"""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grading.plots import axis_of
from models.grading.report import html_of, json_of
from models.grading.results import Answer, Run, Scored, Threshold, report_of

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028 ]]> --> {{7*7}} &lt;"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def run(name, count=3, said="four", **facts):
    grades = [{"right": Scored(n % 2, bool(n % 2)), "near": Scored(n / count, passed=True)} for n in range(count)]
    answers = [
        Answer(str(n), {"q": f"{said} {n}", "level": "easy"}, said, grades[n], latency_ms=n) for n in range(count)
    ]
    return Run(name, "m", answers, **facts)


def report(*runs, **options):
    return report_of("Title", runs, created_at=0, slices=["item.level"], **options)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "line", "circle", "rect", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"line", "circle", "rect"}:
            assert self.open.pop() == tag


def tags(page):
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


def data_of(page):
    return json.loads(DATA.search(page)[1])


def test_a_page_holds_every_part():
    page = html_of(report(run("a"), run("b"), thresholds=[Threshold("right", mean=0.9)]))
    for heading in ("Summary", "Thresholds", "Scores", "Paired differences", "By item.level", "Latency", "Items"):
        assert heading in page
    assert "missed" in page
    assert [item["key"] for item in data_of(page)["items"]] == ["0", "1", "2"]


def test_one_run_has_nothing_to_compare():
    page = html_of(report(run("a")))
    assert "Paired differences" not in page


def test_nothing_is_fetched_and_only_our_script_may_run():
    page = html_of(report(run("a"), run("b")))
    seen = tags(page)
    assert not {"link", "iframe", "img", "object", "base"} & {tag for tag, _ in seen}
    assert not any({"src", "style", "onclick"} & attributes.keys() for _, attributes in seen)
    [policy] = [each["content"] for _, each in seen if each.get("http-equiv") == "Content-Security-Policy"]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(html.unescape(script).encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "https://" not in page.replace(DATA.search(page)[0], "")


def test_what_models_wrote_stays_text():
    page = html_of(report(run(HOSTILE, said=HOSTILE, parameters={HOSTILE: HOSTILE})))
    assert [tag for tag, _ in tags(page)].count("script") == 2
    assert "<img" not in page
    assert "alert(1)</script>" not in page
    assert data_of(page)["items"][0]["answers"][0]["output"] == HOSTILE


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=40))
def test_any_words_make_a_sound_page(words):
    page = html_of(report(run(words or "a", said=words)))
    assert [tag for tag, _ in tags(page)].count("script") == 2
    assert data_of(page)["items"][0]["item"]["level"] == "easy"


def test_ten_thousand_items_are_a_page_that_loads():
    page = html_of(report(run("a", 10_000, "long " * 2000), run("b", 10_000, "long " * 2000)))
    assert len(page) < 30_000_000
    assert len(data_of(page)["items"]) == 10_000
    assert "characters more in report.json" in page


def test_the_json_holds_everything_whole():
    told = report(run("a", said="x" * 50_000))
    assert json.loads(json_of(told)) == json.loads(json.dumps(told))
    assert len(json.loads(json_of(told))["items"][0]["answers"][0]["output"]) == 50_000


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([0.2, 0.4], {"unit": True}, (0, 1)),
        ([0.2, -0.1], {"even": True}, (-0.2, 0.2)),
        ([], {}, (0, 1)),
        ([0, 0], {"even": True}, (-1, 1)),
        ([923, 1281], {}, (0, 1500)),
        ([3, 5], {"unit": True}, (0, 5)),
        ([None, 1e-9], {}, (0, 1e-9)),
    ],
)
def test_an_axis_holds_its_values(values, options, expected):
    axis = axis_of(values, **options)
    assert (axis.low, axis.high) == pytest.approx(expected)
    assert 2 <= len(axis.ticks) <= 9


@given(st.lists(st.floats(-1e6, 1e6), max_size=5))
def test_every_value_has_a_place(values):
    axis = axis_of(values)
    assert all(0 <= axis.at(value) <= 100 for value in values)
    assert len(axis.ticks) <= 9
