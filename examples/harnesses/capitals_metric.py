"""What lm-eval's task counts: whether the answer names the capital."""


def found(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    return {"found": float(doc["answer"] in results[0])}
