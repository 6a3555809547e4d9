"""Inspect AI's way of asking: inspect eval inspect_capitals.py --model openai-api/local/tram-demo."""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

DATA = Path(__file__).with_name("capitals.jsonl")


@task
def capitals() -> Task:
    questions = json_dataset(str(DATA), FieldSpec(input="question", target="answer"))
    return Task(dataset=questions, solver=generate(), scorer=includes())
