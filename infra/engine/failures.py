"""Why did the engine not start, or die, and what is to be done?  One line, with the engine's own words in it.

A table of what SGLang, PyTorch and huggingface_hub say when something is amiss, each with its meaning.  The order counts: what
is found first explains what follows from it, since an engine's last line tells as a rule only that a process of its own has
failed.  What is in no row is told by the last error in the log.  Relies on nothing but the lines; refuses to guess beyond them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_OWN_WORDS = 300  # characters of a line that may list a hundred choices
_PREFIX = re.compile(r"^(\[[\d-]+ [\d:]+[^\]]*\]|\S+ serve:|\S+\.py:) ")
_ERROR = r"^([\w.]*(?:Error|Exception|Exit)\b|error):? *\S"
_KILLED = "was killed by SIGKILL"
_DRIVER = "a GPU needs a driver on the host, and in a container NVIDIA's container toolkit and `--gpus`"
_MEMORY = (
    "choose a GPU with more memory or one that nothing else uses, or a smaller context or number of running requests"
)


@dataclass(frozen=True, slots=True)
class Failure:
    said: str
    """A regular expression, found anywhere in a line."""
    means: str
    """With `{0}`, `{1}`, … for what the expression's groups caught."""


FAILURES = (
    Failure(
        r"No space left on device|Not enough free disk space", "the disk is full; 14 GB of weights need room in HF_HOME"
    ),
    Failure(
        r"driver on your system is too old|driver version is insufficient", "the NVIDIA driver is too old; update it"
    ),
    Failure(
        r"unsupported display driver|forward compatibility was attempted", "the NVIDIA driver does not fit; update it"
    ),
    Failure(r"Found no NVIDIA driver|libcuda\.so\.1: cannot open", f"no NVIDIA driver was found; {_DRIVER}"),
    Failure(
        r"No CUDA GPUs are available|no CUDA-capable device",
        f"no GPU can be seen; {_DRIVER}, and CUDA_VISIBLE_DEVICES must not hide it",
    ),
    Failure(
        r"not compiled with CUDA|'torch\._C' has no attribute '_cuda",
        "this environment's PyTorch was built for machines without a GPU; let TRAM_ENGINE_ENV name one that was built for CUDA",
    ),
    Failure(r"no kernel image is available", "this build of SGLang or PyTorch has no code for this generation of GPU"),
    Failure(
        r"not supported for the current GPU\. Minimum capability: (\d+)\. Current capability: (\d+)",
        "this GPU is too old for these weights (compute capability {1}, and they need {0})",
    ),
    Failure(
        r"compute capability (?:of at least|>=) ([\d.]+)",
        "this GPU is too old for this model (it needs compute capability {0})",
    ),
    Failure(
        r"(\S+) is not supported for quantization method (\S+)\.",
        "these weights ({1}) are not computed in {0}; change the card's `dtype`",
    ),
    Failure(
        r"weights leave no GPU memory for the KV cache|Not enough memory\. Please try to increase --mem-fraction-static",
        f"the weights fit but leave no memory for the cache; raise the card's `mem-fraction-static`, or {_MEMORY}",
    ),
    Failure(r"CUDA out of memory|CUDA error: out of memory", f"the GPU's memory does not suffice; {_MEMORY}"),
    Failure(
        r"DefaultCPUAllocator: can't allocate memory|^MemoryError|Cannot allocate memory",
        "this machine's memory does not suffice",
    ),
    Failure(
        r"exit code:? -9\b",
        "the kernel has killed a process of the engine, as it does when memory runs out (`dmesg` tells); give the machine or the container more",
    ),
    Failure(
        r"gated repo|is restricted and you are not in the authorized list|401 Client Error",
        "the model's repository is not open to everybody; ask for access there, and set HF_TOKEN",
    ),
    Failure(
        r"outgoing traffic has been disabled|offline mode is enabled|couldn't connect to '(?:https?://[^']*)' to load",
        "the model is not in the cache (HF_HOME), and it cannot be fetched: there is no network, or HF_HUB_OFFLINE forbids it",
    ),
    Failure(
        r"(\S+) is not a valid git identifier", "the model's repository has no revision {0}; mend the card's `revision`"
    ),
    Failure(
        r"not a valid model identifier|Repository Not Found|404 Client Error|Repo id must be in the form|Unrecognized model in",
        "there is no such model, neither a folder nor a repository; mend the card's `weights`",
    ),
    Failure(
        r"SafetensorError|Error while deserializing header|Cannot find any model weights",
        "the weights are damaged or incomplete; remove them from HF_HOME, and they are fetched again",
    ),
    Failure(r"unrecognized arguments: (.+)", "this release of SGLang knows no {0}; mend the card's flags"),
    Failure(r"argument (--\S+): (.+)", "this release of SGLang does not take this value of {0}; mend the card's flags"),
    Failure(
        r"address already in use|Address already in use|Errno 98|port \d+ is (?:already in use|not available)",
        "its port is taken by another process",
    ),
    Failure(
        r"^ModuleNotFoundError: No module named '([^']+)'",
        "the engine's environment lacks {0}; remove it and let `tram engine install` make it anew, or mend TRAM_ENGINE_ENV",
    ),
)


def explain(lines: Sequence[str], how: str) -> str:
    """`how` it ended, in the supervisor's words.  Empty where the lines tell nothing."""
    told = [_plain(line) for line in lines]
    for failure in FAILURES:
        if (found := _last(failure.said, told)) is not None:
            means = failure.means.format(*(found.groups()))
            return f"{means} (the engine says: {_cut(found.string)})"
    if (found := _last(_ERROR, told)) is not None:
        return f"its last error is: {_cut(found.string)}"
    if how == _KILLED:
        return "its log does not say why; the kernel ends processes so when memory runs out (`dmesg` tells)"
    return ""


def _plain(line: str) -> str:
    return _PREFIX.sub("", line).strip()


def _last(pattern: str, lines: Iterable[str]) -> re.Match[str] | None:
    found = None
    for line in lines:
        found = re.search(pattern, line) or found
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _OWN_WORDS else text[:_OWN_WORDS] + " …"
