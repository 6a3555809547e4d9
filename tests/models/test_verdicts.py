"""What a difference proves depends on what else was different; each cause is named, and changes the verdict as it should."""

from dataclasses import replace

import pytest

from models.comparison import Mode
from models.environments import DETERMINISTIC
from models.lifecycle import JobState
from models.verdicts import Side, Terms, Verdict, Why, judge

IDENTICAL, DIVERGED, NOT_COMPARABLE = Verdict.IDENTICAL, Verdict.DIVERGED, Verdict.NOT_COMPARABLE
SURE = {"engine": "sglang", "device": "cuda", DETERMINISTIC: True}
UNSURE = SURE | {DETERMINISTIC: False}


def side(said="a", **changes):
    answers = [] if said is None else [{"role": "assistant", "content": said}]
    return replace(Side(JobState.COMPLETED, answers, {"temperature": 0.0}, SURE), **changes)


def codes(judgement):
    return {reason.code for reason in judgement.reasons}


def told(recorded, replayed, terms=None):
    found = judge(recorded, replayed, terms or Terms())
    return found.verdict, found.comparable, codes(found)


def test_under_equal_conditions_a_verdict_is_a_proof():
    assert told(side(), side()) == (IDENTICAL, True, set())
    assert told(side(), side("b")) == (DIVERGED, True, set())


def test_a_divergence_without_deterministic_inference_says_so_and_is_comparable():
    one, other = side(environment=UNSURE), side("b", environment=UNSURE)
    assert told(one, other) == (DIVERGED, True, {Why.NOT_DETERMINISTIC})
    (reason,) = judge(one, other, Terms()).reasons
    assert "TRAM_ENGINE_DETERMINISTIC" in reason.message
    on_cpu = UNSURE | {"device": "cpu"}
    (reason,) = judge(side(environment=on_cpu), side(environment=on_cpu), Terms()).reasons
    assert "no batch-invariant kernels for CPUs" in reason.message
    unknown = {"engine": "unknown", DETERMINISTIC: None}
    (reason,) = judge(side(environment=unknown), side(environment=unknown), Terms()).reasons
    assert "does not tell" in reason.message


SAMPLED = {"temperature": 0.7}
SEEDED = SAMPLED | {"seed": 7}
CAUSES = [
    (side(environment=SURE | {"engine_version": "0.5.24"}), Why.ENVIRONMENT),
    (side(environment=None), Why.ENVIRONMENT_UNKNOWN),
    (side(parameters=SAMPLED), Why.SAMPLED),
    (side(parameters={}), Why.SAMPLED),
    (side(messages_same=False), Why.HISTORY),
    (side(state=JobState.CANCELLED), Why.BROKEN_OFF),
]


@pytest.mark.parametrize(("changed", "why"), CAUSES)
def test_a_difference_with_another_cause_is_not_comparable_and_equality_still_a_fact(changed, why):
    other = replace(changed, answers=[{"role": "assistant", "content": "b"}])
    verdict, comparable, found = told(side(), other)
    assert (verdict, comparable) == (NOT_COMPARABLE, False)
    assert why in found
    verdict, comparable, found = told(side(), changed)
    assert (verdict, comparable) == (IDENTICAL, False)
    assert why in found


def test_the_environment_tells_in_what_it_differs():
    found = judge(side(), side("b", environment=SURE | {"engine_version": "9", "device": "cpu"}), Terms())
    (reason,) = found.reasons
    assert [dict(each) for each in reason.details] == [
        {"fact": "device", "recorded": "cuda", "replayed": "cpu"},
        {"fact": "engine_version", "recorded": None, "replayed": "9"},
    ]
    assert reason.message.endswith("device, engine_version")


def test_dice_can_be_thrown_again_with_a_seed_and_deterministic_inference_only():
    assert told(side(parameters=SEEDED), side("b", parameters=SEEDED)) == (DIVERGED, True, set())
    unsure = [side(text, parameters=SEEDED, environment=UNSURE) for text in "ab"]
    assert told(*unsure) == (NOT_COMPARABLE, False, {Why.SAMPLED, Why.NOT_DETERMINISTIC})
    greedy = SAMPLED | {"top_k": 1}
    assert told(side(parameters=greedy), side("b", parameters=greedy)) == (DIVERGED, True, set())


CHANGED = Terms(changed=[{"parameter": "max_tokens", "recorded": None, "replayed": 2}])


def test_what_was_to_be_changed_has_diverged_or_not_and_is_no_proof():
    assert told(side(), side("b"), CHANGED) == (DIVERGED, False, {Why.OVERRIDDEN})
    assert told(side(), side(), CHANGED) == (IDENTICAL, False, {Why.OVERRIDDEN})
    moved = side("b", environment=SURE | {"card": "other"})
    assert told(side(), moved, CHANGED) == (DIVERGED, False, {Why.OVERRIDDEN, Why.ENVIRONMENT})
    (reason,) = judge(side(), side(), CHANGED).reasons
    assert reason.message == "the replay was asked to change max_tokens"


@pytest.mark.parametrize("sides", [(side(None), side()), (side(), side(None)), (side(None), side(None))])
def test_what_is_not_there_cannot_be_compared(sides):
    for terms in (Terms(), CHANGED):
        found = judge(*sides, terms)
        assert (found.verdict, found.comparable, found.difference) == (NOT_COMPARABLE, False, None)
        assert Why.NO_ANSWER in codes(found)


def test_a_failure_is_told_in_its_own_words():
    found = judge(side(), side(None, state=JobState.FAILED, error="too long"), Terms())
    assert found.reasons[0].message == "the replayed turn has no answer: it is failed: too long"
    assert found.lengths == (1, None)


def test_a_judgement_is_kept_without_what_was_said():
    found = judge(side("abc"), side("abd"), Terms(Mode.TEXT))
    assert found.told() == {
        "verdict": "diverged",
        "comparable": True,
        "reasons": [],
        "difference": {"choice": 0, "position": 2},
        "similarity": pytest.approx(2 / 3, abs=1e-6),
        "same_calls": None,
        "lengths": [3, 3],
    }
    assert judge(side("a "), side("a"), Terms(Mode.TEXT)).verdict is IDENTICAL
