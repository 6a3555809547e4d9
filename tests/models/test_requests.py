"""Is a model asked only for what it can do?  What it cannot is refused by name, never left out."""

import pytest

from models.cards.card import catalogue
from models.errors import InvalidRequest
from models.requests import check_abilities

DEMO = catalogue()["tram-demo"]
PLAIN = DEMO.model_copy(update={"capabilities": ("streaming",)})
SEEING = DEMO.model_copy(update={"modalities": ("text", "image")})
USER = {"role": "user", "content": "hello"}
GIF = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}}
LOOK = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, GIF]}


@pytest.mark.parametrize("wish", [{"regex": "a"}, {"continue_final_message": True}], ids=str)
def test_what_an_engine_of_another_make_would_leave_out_is_refused(wish):
    body = {"messages": [USER], **wish}
    check_abilities(DEMO, body)
    check_abilities(PLAIN, body | dict.fromkeys(wish))
    with pytest.raises(InvalidRequest) as caught:
        check_abilities(PLAIN, body)
    assert (caught.value.param, caught.value.own_code) == (*wish, "unsupported_parameter")


def test_an_image_is_for_a_model_that_sees():
    check_abilities(SEEING, {"messages": [LOOK]})
    with pytest.raises(InvalidRequest) as caught:
        check_abilities(DEMO, {"messages": [USER, LOOK]})
    assert (caught.value.param, caught.value.own_code) == ("messages[1].content[1]", "unsupported_content_type")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_no_longer_than_the_model_says(name):
    check_abilities(DEMO, {"messages": [USER], name: DEMO.max_output_tokens})
    with pytest.raises(InvalidRequest) as caught:
        check_abilities(DEMO, {"messages": [USER], name: DEMO.max_output_tokens + 1})
    assert caught.value.param == name


def test_json_or_a_call_is_for_a_model_whose_calls_are_known():
    tool = {"type": "function", "function": {"name": "f"}}
    body = {"messages": [USER], "tools": [tool], "response_format": {"type": "json_object"}}
    stranger = DEMO.model_copy(update={"tool_calls": "unknown"})
    check_abilities(DEMO, body)
    check_abilities(stranger, body | {"tool_choice": "none"})
    with pytest.raises(InvalidRequest) as caught:
        check_abilities(stranger, body)
    assert caught.value.param == "response_format"
