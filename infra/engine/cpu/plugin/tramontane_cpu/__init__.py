"""Should SGLang run on this machine's CPU with PyTorch's own kernels?

SGLang asks in every process it starts, through the entry point group `sglang.srt.platforms`, and before it imports anything that
wants torchvision.  Without an answer it looks for CPU kernels (`sgl_kernel`, `vllm`) that no published wheel has.  With a GPU
present this package stays out of the way.
"""

import torch

_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")  # what it declares is forgotten with it


def activate() -> str | None:
    """The platform class to use, as SGLang wants it named; None leaves the choice to SGLang."""
    if torch.cuda.is_available():
        return None
    # Published torchvision is built for CUDA: its operators do not load, and one of them it will not be imported without.
    _TORCHVISION.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return "tramontane_cpu.plain:PlainCpuPlatform"
