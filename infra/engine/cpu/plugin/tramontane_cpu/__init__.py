"""Should SGLang run on this machine's CPU with PyTorch's own kernels?

SGLang asks in every process it starts, through the entry point group `sglang.srt.platforms`.  Without an answer it looks
for CPU kernels (`sgl_kernel`, `vllm`) that no published wheel has.  With a GPU present this package stays out of the way.
"""

import torch


def activate() -> str | None:
    """The platform class to use, as SGLang wants it named; None leaves the choice to SGLang."""
    return None if torch.cuda.is_available() else "tramontane_cpu.plain:PlainCpuPlatform"
