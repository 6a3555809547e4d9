"""Does the document leave nothing out?  Whether what it says is so is asked in tests/flow/test_openapi.py."""

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api import app, openapi, pages
from api.contract import EXAMPLES, FORM, JSON, ROUTES, Route
from api.vocabulary import CODES, HEADERS
from infra.settings import Settings
from models.cards.card import catalogue
from models.wire.errors import TABLE
from models.wire.shapes.service import Health

ROOT = Path(__file__).parents[2]
SERVED = {
    f"{method} {route.path_format}": route
    for part in app._ROUTES
    for route in part.router.routes
    for method in route.methods
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(app.create_app(Settings(_env_file=None)))


def test_every_route_is_told_and_no_other():
    missing, gone = SERVED.keys() - ROUTES.keys(), ROUTES.keys() - SERVED.keys()
    assert not missing, f"a line each in api/contract.py's ROUTES for {sorted(missing)}"
    assert not gone


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_that_reads_a_body_says_which(name):
    read = called(SERVED[name].endpoint)
    assert bool(read & {"body_of", "form_of"}) == (ROUTES[name].body is not None)
    assert ("form_of" in read) == (ROUTES[name].takes_in == FORM)
    assert ("key_of" in read) == ("idempotency-key" in ROUTES[name].takes)
    assert ("caller_of" in read) != ROUTES[name].open


def called(function: Callable[..., Any], deeper: bool = True) -> set[str]:
    """The names of what it calls, and of what those beside it call that it calls."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    names = {getattr(node.func, "id", "") for node in nodes if isinstance(node, ast.Call)}
    beside = [function.__globals__.get(name) for name in names] if deeper else []
    own = [each for each in beside if inspect.isfunction(each) and each.__module__ == function.__module__]
    return names.union(*(called(each, deeper=False) for each in own))


def test_it_is_sound(document):
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert all(each["responses"] and each["tags"] and each["summary"] for each in operations)
    assert set(document["webhooks"]) >= {
        f"{subject}.{word}"
        for subject in ("chat.completion", "batch")
        for word in ("completed", "failed", "cancelled", "expired")
    }


def test_names_are_words_and_each_is_used(document):
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if not re.fullmatch(r"([A-Z][a-z]+)+", name)] == []
    told = json.dumps(document)
    assert [name for name in schemas if f'schemas/{name}"' not in told] == []


def test_every_code_of_an_error_is_told():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    used = generate.codes_in_use()
    for kind in TABLE:
        said = {kind.code, *CODES.get(kind, ())}
        assert used[kind.__name__] <= said, f"CODES in api/vocabulary.py, {kind.__name__}: {used[kind.__name__] - said}"


def test_every_header_of_ours_is_told():
    sent = {name for path in (ROOT / "api").rglob("*.py") for name in re.findall(r'"(x-[a-z-]+)"', path.read_text())}
    assert sent <= HEADERS.keys() | {"x-gateway-signature"}


def test_a_door_may_have_errors_of_its_own():
    told = openapi._responses(Route("Odd", JSON, refuses=(429,), refusal=Health))
    assert told["429"]["content"] == {JSON: {"schema": {"$ref": "#/components/schemas/Health"}}}
    assert "retry-after" in told["429"]["headers"]


def test_it_is_made_once():
    served = app.create_app(Settings(_env_file=None))
    assert openapi.document(served) is openapi.document(served)


def test_a_start_does_not_wait_for_it():
    program = "import sys, api.app; sys.exit(bool({'api.contract', 'api.openapi', 'api.pages', 'api.vocabulary'} & sys.modules.keys()))"
    assert subprocess.run((sys.executable, "-c", program), cwd=ROOT, timeout=60, check=False).returncode == 0


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids |= {told["id"]} if "id" in told else set()
        self.links |= {told["href"]} if tag == "a" else set()
        self.fetched |= {tag} & {"script", "link", "img", "iframe"}


def test_the_page_is_whole_in_itself(document):
    page = Page()
    page.feed(pages.reference(document))
    assert page.fetched == set()
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    operations = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    assert operations | document["components"]["schemas"].keys() <= page.ids


def test_llms_txt_has_its_form(document):
    text = pages.llms(document, catalogue().values())
    lines = text.splitlines()
    assert lines[0] == "# Tramontane"
    assert lines[2].startswith("> ")
    listed = {line for line in lines if line.startswith("- [")}
    assert all(re.fullmatch(r"- \[[^\]]+\]\(/[^)]+\): .+", line) for line in listed)
    for name in ROUTES:
        assert any(line.startswith(f"- [{name}]") for line in listed), name
    for card in catalogue().values():
        assert f"`{card.id}`" in text
    assert len(text) < 8000


@pytest.mark.parametrize("shape", EXAMPLES, ids=lambda shape: shape.__name__)
def test_examples_are_valid(shape):
    shape.model_validate(EXAMPLES[shape])
