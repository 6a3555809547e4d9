"""Are suites and their rows read from files, and is what cannot be read told with its place?"""

from pathlib import Path

import pytest

from api.suites import read_suite
from models.errors import InvalidRequest

SUITE = """
name: sums
dataset: {DATASET}
prompt: "{{{{item.q}}}}"
variants: [{{name: a, model: m}}]
graders: [{{type: expression, name: e, expression: "1"}}]
"""
EXAMPLES = Path(__file__).parents[2] / "examples" / "evals"


def suite(folder, dataset, **files):
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_bytes(text.encode())
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(DATASET=dataset), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("dataset", "files", "rows"),
    [
        ("{items: [{q: 1}, {q: 2}]}", {}, [{"q": 1}, {"q": 2}]),
        ("{path: d.jsonl}", {"d_jsonl": '{"q": 1}\n\n{"item": {"q": 2}}\n'}, [{"q": 1}, {"q": 2}]),
        ("{path: d.jsonl, limit: 1}", {"d_jsonl": '{"q": 1}\nnot read'}, [{"q": 1}]),
        ("{path: d.jsonl}", {"d_jsonl": '\ufeff{"q": "one\u2028two"}\r\n{"q": "\x85"}'}, [{"q": "one\u2028two"}, {"q": "\x85"}]),
        ("{path: d.csv}", {"d_csv": 'q,a\n"one, two",1\n'}, [{"q": "one, two", "a": "1"}]),
        ("{path: d.csv}", {"d_csv": "\ufeffq\r\none\u2028two\r\nthree\r\n"}, [{"q": "one\u2028two"}, {"q": "three"}]),
        ("{path: d.csv}", {"d_csv": 'q\n"one\r\ntwo"\n'}, [{"q": "one\r\ntwo"}]),
    ],
)  # fmt: skip
def test_rows_are_read(tmp_path, dataset, files, rows):
    assert read_suite(suite(tmp_path, dataset, **files))[1] == rows


@pytest.mark.parametrize(
    ("dataset", "files", "said"),
    [
        ("{path: none.jsonl}", {}, "none.jsonl"),
        ("{path: d.jsonl}", {"d_jsonl": '{"q": 1}\n{"q": '}, "d.jsonl, line 2: not JSON"),
        ("{path: d.jsonl}", {"d_jsonl": "[]"}, "d.jsonl, line 1: a row is an object"),
        ("{path: d.jsonl}", {"d_jsonl": "\n"}, "dataset: 1 to"),
        ("{path: d.csv}", {"d_csv": "q,a\n1\n"}, "d.csv, row 2"),
        ("{path: d.csv}", {"d_csv": f"q\n1\n{'x' * 140_000}\n"}, "d.csv, line 3: field larger than"),
        ("{items: [{day: 2024-05-01}]}", {}, "suite.yaml: dataset.items[0].day: 2024-05-01 is nothing that JSON has"),
        ("{items: [{map: {1: a}}]}", {}, "suite.yaml: dataset.items[0].map: the key 1 is no text"),
        ("{items: [{n: .nan}]}", {}, "dataset.items[0].n"),
        ("{items: [{n: 123456789012345678901}]}", {}, "dataset.items[0].n"),
        ("[", {}, "not YAML"),
        ("{nope: 1}", {}, "suite.yaml: unsupported parameter: dataset.nope"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, dataset, files, said):
    with pytest.raises(InvalidRequest) as caught:
        read_suite(suite(tmp_path, dataset, **files))
    assert said in caught.value.message


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_sound(path):
    wanted, rows = read_suite(path)
    assert len(rows) >= 5
    assert wanted.variants
