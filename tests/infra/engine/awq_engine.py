"""What does SGLang say with an AWQ checkpoint, through `--quantization awq`?

Runs in SGLang's environment with the checkpoint, a file of `[question, answer]` texts and a file to write JSON to, since the
engine's own words are on both outputs.  The engine is one of this process and goes with it.
"""

import json
import sys
from pathlib import Path

import sglang

ANSWER_TOKENS = 60


def main():
    checkpoint, texts, out = map(Path, sys.argv[1:])
    asked = json.loads(texts.read_text(encoding="utf-8"))
    engine = sglang.Engine(
        model_path=str(checkpoint),
        quantization="awq",
        dtype="float16",
        device="cpu",
        context_length=1024,
        max_total_tokens=4096,
        max_running_requests=8,
        disable_radix_cache=True,  # a cached prefix would have no log probabilities
        log_level="error",
    )
    wholes = generated(engine, [question + answer for question, answer in asked], 1)
    answers = generated(engine, [question for question, _ in asked], ANSWER_TOKENS)
    told = {
        "quantization": engine.server_args.quantization,
        "said": [said(*pair) for pair in zip(wholes, answers, strict=True)],
    }
    engine.shutdown()
    out.write_text(json.dumps(told), encoding="utf-8")


def generated(engine, texts, tokens):
    sampling = {"temperature": 0, "max_new_tokens": tokens}
    return engine.generate(prompt=texts, sampling_params=sampling, return_logprob=True, logprob_start_len=0)


def said(whole, answer):
    told = whole["meta_info"]["input_token_logprobs"]
    return {
        "ids": [token for _, token, _ in told],
        "logprobs": [sure for sure, _, _ in told[1:]],
        "text": answer["text"],
    }


if __name__ == "__main__":  # each process that the engine starts imports this module
    main()
