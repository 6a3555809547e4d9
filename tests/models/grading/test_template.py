"""What do places in a template stand for, and can a template do more than that?"""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest, TooLarge
from models.grading.template import (
    MISSING,
    QUESTION_CHARACTERS,
    RENDERED_CHARACTERS,
    check,
    render,
    render_messages,
    value,
)

SPACE = {
    "item": {"q": "two", "n": 3, "none": None, "tags": ["a", {"b c": True}], "dashed-name": "d", "{{item.q}}": "own"},
    "sample": {"output_text": "said", "output_json": {"x": [1]}},
}


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{item.q}} and {{ sample.output_text }}", "two and said"),
        ("{{ item.n }}/{{item.none}}/{{item.tags}}", '3//["a",{"b c":true}]'),
        ("{{item.tags[0]}}{{item.tags.0}}{{ item.tags[-1]['b c'] }}", "aatrue"),
        ('{{item["dashed-name"]}}{{item.dashed-name}}', "dd"),
        ("no place { {item.q} }", "no place { {item.q} }"),
        ("{{\n item.q\n}}", "two"),
        ("", ""),
    ],
)
def test_places_are_filled(template, rendered):
    assert render(template, SPACE) == rendered


@pytest.mark.parametrize(
    "place",
    [
        "item.q.upper()",
        "item.q|upper",
        "''.__class__",
        "7*7",
        "",
        "item.",
        "item[q]",
        "item..q",
        "item .q",
        "[0]",
        "item[0][99999999999]",
    ],
)
def test_a_place_holds_a_path_and_nothing_else(place):
    with pytest.raises(InvalidRequest) as caught:
        check(f"{{{{{place}}}}}", "input")
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "path",
    ["item.nope", "item.tags[9]", "item.q.x", "item.q[0]", "item.__class__", "item.tags.x", "item.none.x", "sample.y"],
)
def test_what_is_not_there_is_named(path):
    with pytest.raises(InvalidRequest) as caught:
        render(f"{{{{ {path} }}}}", SPACE)
    assert (caught.value.own_code, caught.value.param) == (MISSING, path)


def test_only_known_roots_are_taken():
    check("{{first}}", "input", frozenset({"first"}))
    with pytest.raises(InvalidRequest, match="'first' is not known here; item and sample are"):
        check("{{first}}", "input")


def test_what_is_put_in_is_not_read_again():
    assert render("{{item.x}}", {"item": {"x": "{{item.secret}}", "secret": "s"}}) == "{{item.secret}}"


def test_a_short_template_does_not_become_an_endless_text():
    with pytest.raises(TooLarge):
        render("{{item.x}}" * 1000, {"item": {"x": "y" * (RENDERED_CHARACTERS // 500)}})


@pytest.mark.parametrize("part", ["{{item.x}}", "z" * (QUESTION_CHARACTERS // 90)])
def test_many_short_parts_do_not_become_an_endless_chat(part):
    space = {"item": {"x": "y" * (QUESTION_CHARACTERS // 90)}}
    render_messages([{"role": "user", "content": [part] * 80}], space)
    for messages in ([{"role": "user", "content": [part] * 100}], [{"role": "user", "content": part}] * 100):
        with pytest.raises(TooLarge):
            render_messages(messages, space)


def test_braces_that_never_close_take_no_time():
    begun = time.thread_time()
    assert render("{{" * 100_000, SPACE) == "{{" * 100_000
    check("{{ item.q" * 20_000, "input")
    assert time.thread_time() - begun < 5


def test_a_value_nested_beyond_writing_is_refused_in_words():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        render("{{item.x}}", {"item": {"x": deep}})


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(), lambda x: st.lists(x, max_size=3)))
def test_any_value_can_be_written(anything):
    assert isinstance(render("{{item.x}}", {"item": {"x": anything}}), str)


@given(st.text())
def test_any_text_is_a_template_or_is_refused(text):
    with suppress(InvalidRequest, TooLarge):
        check(text, "input")
        assert isinstance(render(text, SPACE), str)


@given(st.text())
def test_any_path_is_found_or_is_refused(path):
    with suppress(InvalidRequest):
        assert value(path, SPACE) is not NotImplemented


def test_messages_of_evals_become_those_of_chats():
    image = {"type": "input_image", "image_url": "{{item.q}}.png", "detail": "low"}
    shown = render_messages(
        [
            {"type": "message", "role": "developer", "content": "Be {{item.q}}."},
            {"role": "user", "content": {"type": "input_text", "text": "{{item.n}}"}},
            {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, "b"]},
            {"role": "user", "content": [{"type": "input_text", "text": "see"}, image]},
        ],
        SPACE,
    )
    assert shown == [
        {"role": "developer", "content": "Be two."},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "a\nb"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "two.png", "detail": "low"}},
            ],
        },
    ]


def test_audio_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="input_audio"):
        render_messages([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], SPACE)
