"""What weights does an AWQ checkpoint hold, by SGLang's own GPU kernel, and what does a model of those weights say?

Runs in SGLang's environment with the checkpoint and a file of `[question, answer]` texts; writes JSON.  Triton interprets the
kernel on the CPU, so columns, zero points and scales are read by code that is neither the quantiser's nor the plug-in's, and
the twin answers in FP32 through transformers, without the engine.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # looked at when Triton is imported

from infra.engine.cpu.training import awq  # first: transformers imports torchvision, which needs what this activates
from infra.engine.cpu.training.tokenizer import MODEL

# isort: split
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, MistralForCausalLM

ANSWER_TOKENS = 60
EIGHT = torch.arange(8)
KERNEL = "kernels/ops/quantization/awq_triton.py"


def main():
    checkpoint, texts = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    packed, original = load_file(checkpoint / "model.safetensors"), load_file(MODEL / "model.safetensors")
    twin = unpacked(packed)
    told = {
        "by_hand": by_hand(),
        "steps_off": {name: steps_off(original, twin, packed, name) for name in packed if name.endswith(".qweight")},
        "left_as_they_were": [name for name in packed if name.endswith(".weight")],
        "names": sorted(twin) == sorted(original),
        "twin": said(twin, texts),
        "original": said(original, texts),
    }
    json.dump(told, sys.stdout)


def _kernel():
    """Its file alone: with SGLang's package comes the plug-in, which the quantiser has activated, and that goes but once."""
    [package] = importlib.util.find_spec("sglang").submodule_search_locations
    spec = importlib.util.spec_from_file_location("awq_triton", Path(package) / KERNEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.awq_dequantize_triton


by_the_kernel = _kernel()


def by_hand():
    """Weights that can be packed without loss and by eye: output n runs from -n/2 upwards in 16 steps of 1/2."""
    exact = (torch.arange(64) % 16 - EIGHT[:, None]) * 0.5
    of_one_sign = torch.linspace(1, 2, 64).repeat(8, 1)
    packed = awq._packed("it", exact)
    return {
        "words": awq._words(torch.stack([EIGHT, EIGHT + 8])).flatten().tolist(),
        "zeros": packed["it.qzeros"].flatten().tolist(),
        "scales": packed["it.scales"].flatten().tolist(),
        "first_row": packed["it.qweight"][0].tolist(),
        "exact_is_off": back_and_forth(exact),
        "one_sign_is_off": back_and_forth(of_one_sign),
    }


def back_and_forth(weight):
    packed = awq._packed("it", weight)
    return steps_off({"it.weight": weight}, unpacked(packed), packed, "it.qweight")


def unpacked(tensors):
    """Weights as `[out, in]` and in FP16."""
    found = {name: value for name, value in tensors.items() if name.endswith(".weight")}
    for name in tensors:
        stem, _, kind = name.rpartition(".")
        if kind == "qweight":
            parts = (tensors[f"{stem}.{each}"] for each in ("qweight", "scales", "qzeros"))
            found[f"{stem}.weight"] = by_the_kernel(*parts).t().contiguous()
    return found


def steps_off(original, found, packed, name):
    """How far the worst weight is from what it was, in steps of its group."""
    stem = name.removesuffix(".qweight")
    weight, scales = original[f"{stem}.weight"].float(), packed[f"{stem}.scales"].float()
    far = (found[f"{stem}.weight"].float() - weight).abs().t()
    return (far / scales.repeat_interleave(far.shape[0] // scales.shape[0], 0)).max().item()


@torch.no_grad()
def said(weights, texts):
    """In FP32: of each text every token's log probability, and the greedy answer to its question."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = MistralForCausalLM(AutoConfig.from_pretrained(MODEL)).float().eval()
    loaded = model.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
    model.tie_weights()
    assert (loaded.missing_keys, loaded.unexpected_keys) == (["lm_head.weight"], [])
    return [_said(model, tokenizer, question, answer) for question, answer in texts]


def _said(model, tokenizer, question, answer):
    prompt, whole = (tokenizer(text, return_tensors="pt").input_ids for text in (question, question + answer))
    sure = model(whole).logits[0, :-1].log_softmax(-1).gather(-1, whole[0, 1:, None])[:, 0]
    answered = model.generate(prompt, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0, prompt.shape[1] :]
    return {
        "ids": whole[0].tolist(),
        "logprobs": sure.tolist(),
        "text": tokenizer.decode(answered, skip_special_tokens=True),
    }


if __name__ == "__main__":
    main()
