"""Where do the commands write?  What was asked for goes to standard output, what went wrong to standard error, in one line."""

from typing import Any

from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say(text: str) -> None:
    """Words as they are: nothing in them is markup or coloured, and no line is broken that a reader may want to paste."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def say_json(value: Any) -> None:
    console.print_json(data=value)
