"""How does the demo model become one in 4-bit AWQ, so that SGLang's loading of such weights is tried without a GPU?

    .venv-engine/bin/python -m infra.engine.cpu.training.awq OUT

Rounds to the nearest, in the "gemm" layout of the 24B's checkpoint.  Nothing is calibrated: the result shows that loading works, not
how good AWQ is.  Runs in SGLang's environment.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from infra.engine.cpu.training.tokenizer import MODEL

_GROUP = 64  # weights that share a scale; it divides both the hidden and the MLP's width
_COLUMN_OF_SLOT = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight columns each 4 bits of a word hold
_MOST = 15
_SIGN, _WRAP = 2**31, 2**32


def main() -> None:
    out = Path(sys.argv[1])
    shutil.copytree(MODEL, out)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in load_file(MODEL / "model.safetensors").items():
        tensors |= _packed(name.removesuffix(".weight"), value) if "_proj." in name else {name: value.half()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    config |= {"dtype": "float16", "quantization_config": _told()}
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _told() -> dict[str, object]:
    how = {"quant_method": "awq", "bits": 4, "group_size": _GROUP, "zero_point": True, "version": "gemm"}
    return {**how, "modules_to_not_convert": None}


def _packed(stem: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A [out, in] weight as AWQ's three tensors."""
    columns = weight.float().t()
    rows, width = columns.shape
    groups = columns.reshape(rows // _GROUP, _GROUP, width)
    low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)  # a zero point is one of the 16 levels
    scale = ((high - low).clamp(min=1e-5) / _MOST).half().float()
    zero = (-low / scale).round().clamp(0, _MOST)
    level = (groups / scale[:, None] + zero[:, None]).round().clamp(0, _MOST)
    words = {"qweight": _words(level.reshape(rows, width)), "qzeros": _words(zero), "scales": scale.half().contiguous()}
    return {f"{stem}.{kind}": tensor for kind, tensor in words.items()}


def _words(levels: torch.Tensor) -> torch.Tensor:
    eights = levels.to(torch.int64).reshape(levels.shape[0], -1, 8)
    words = sum(eights[:, :, column] << (4 * slot) for slot, column in enumerate(_COLUMN_OF_SLOT))
    return torch.where(words >= _SIGN, words - _WRAP, words).to(torch.int32).contiguous()


if __name__ == "__main__":
    main()
