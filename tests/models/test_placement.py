"""Jobs of one card share one queue, named so that workers can find it."""

from models.placement import queue_for


def test_a_card_has_its_queue():
    assert queue_for("tram-demo") == "chat.tram-demo"
    assert queue_for("tram-demo") != queue_for("mistral-small")
