"""One card, one queue a service tier; its workers take from all of them, the most urgent first."""

import pytest

from models.cards.card import catalogue
from models.placement import Tier, queue_for, queues_of


def test_a_tier_has_its_queue_and_the_default_one_bears_the_card_s_name_alone():
    assert queue_for("tram-demo") == queue_for("tram-demo", Tier.DEFAULT) == "chat.tram-demo"
    assert queue_for("tram-demo", Tier.PRIORITY) == "chat.tram-demo.priority"
    assert queue_for("tram-demo", Tier.FLEX) == "chat.tram-demo.flex"


def test_the_more_urgent_is_served_first():
    assert queues_of("tram-demo") == ["chat.tram-demo.priority", "chat.tram-demo", "chat.tram-demo.flex"]


@pytest.mark.parametrize("card_id", catalogue())
def test_no_two_cards_share_a_queue(card_id):
    others = {queue for other in catalogue() if other != card_id for queue in queues_of(other)}
    assert others.isdisjoint(queues_of(card_id))
    assert len(set(queues_of(card_id))) == len(Tier)
    assert all("," not in queue for queue in queues_of(card_id)), "they are handed to Celery as one word"
