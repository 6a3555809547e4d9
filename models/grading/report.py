"""How are the figures of an eval shown?  As one HTML file that needs nothing else, and as JSON.

What models wrote is data: it stands in a JSON block whose `<` are escaped, is put on the page as text by a script of ours, and the
page's own policy lets no other script run and nothing be fetched.  Long answers are cut on the page (never in the JSON), so that 10,000
items stay usable.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from models.grading import plots
from models.grading.statistics import FEW

_FOLDER = Path(__file__).parent / "templates"
_PAGE_CHARACTERS = 16_000_000
"""All texts of items and answers together, on the page."""
_TEXT_LEAST, _TEXT_MOST = 300, 6_000
_DIGITS = 3


def json_of(report: Mapping[str, Any]) -> bytes:
    return orjson.dumps(report, option=orjson.OPT_INDENT_2)


def html_of(report: Mapping[str, Any]) -> str:
    style, script = _part("report.css"), _part("report.js")
    page = _environment().get_template("report.html.jinja")
    return str(
        page.render(
            report=report,
            few=FEW,
            day=datetime.fromtimestamp(report["created_at"], UTC).strftime("%Y-%m-%d %H:%M UTC"),
            plots=plots,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
            data=_data(report),
        )
    )


def _data(report: Mapping[str, Any]) -> str:
    """What the page's script reads; nothing in it can end the block it stands in."""
    count = len(report["items"]) * (1 + len(report["runs"]))
    most = max(_TEXT_LEAST, min(_TEXT_MOST, _PAGE_CHARACTERS // max(1, count)))
    runs = [run["name"] for run in report["runs"]]
    told = {"runs": runs, "graders": report["graders"], "items": [_shown(item, most) for item in report["items"]]}
    return orjson.dumps(told).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _shown(item: Mapping[str, Any], most: int) -> dict[str, Any]:
    answers = [each and {**each, "output": _cut(each["output"], most)} for each in item["answers"]]
    own = {name: _cut(value, most) if isinstance(value, str) else value for name, value in item["item"].items()}
    whole = orjson.dumps(own).decode()
    return {**item, "item": own if len(whole) <= 2 * most else {"…": _cut(whole, most)}, "answers": answers}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more in report.json)"


@cache
def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 -- 0.1 s, for whoever writes reports

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": _figure, "share": _share}
    return made


def _figure(value: float | None, digits: int = _DIGITS) -> str:
    """Of any size; a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:  # noqa: PLR2004 -- from there on fractions say nothing
        return f"{value:,.0f}"
    return f"{value:.{digits}f}" if abs(value) >= 10**-digits / 2 or not value else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
