"""How does SGLang 0.5.23 run on a CPU that has neither AMX nor compiled kernels?

As a platform "out of tree": fused operators then take their plain PyTorch form, attention is `torch_native`, nothing is
captured in graphs.  Relies on three young names of SGLang (`CpuSRTPlatform`, `PlatformEnum.OOT`, `PlatformCapabilities`), which
is why the two are pinned together.  It makes the engine real, not quick.
"""

import torch
from sglang.srt.platforms.cpu import CpuSRTPlatform
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import PlatformCapabilities

_SLOT_OF_COLUMN = (0, 4, 1, 5, 2, 6, 3, 7)  # where AWQ's "gemm" layout keeps each of a word's eight columns
_SHIFTS = torch.tensor([4 * slot for slot in _SLOT_OF_COLUMN], dtype=torch.int32)
_OPERATORS = torch.library.Library("sglang", "IMPL")  # operators are forgotten with the object that holds them


class PlainCpuPlatform(CpuSRTPlatform):
    _enum = PlatformEnum.OOT
    capabilities = PlatformCapabilities()

    def get_default_attention_backend(self) -> str:
        return "torch_native"

    def get_compile_backend(self, mode: str | None = None) -> str:  # noqa: ARG002 - SGLang's signature
        return "eager"

    def init_backend(self) -> None:
        _OPERATORS.impl("awq_dequantize", awq_dequantize, "CPU")


def awq_dequantize(qweight: torch.Tensor, scales: torch.Tensor, qzeros: torch.Tensor) -> torch.Tensor:
    """The one operator of SGLang's AWQ layers that has no CPU kernel."""
    group = qweight.shape[0] // scales.shape[0]
    zeros = _unpack(qzeros).repeat_interleave(group, 0)
    return (_unpack(qweight) - zeros).to(scales.dtype) * scales.repeat_interleave(group, 0)


def _unpack(words: torch.Tensor) -> torch.Tensor:
    return ((words[..., None] >> _SHIFTS) & 15).flatten(-2)
