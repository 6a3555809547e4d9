"""Is what an engine says when it fails told in one line that helps?  With what it really says, where this machine can make it."""

import asyncio
import re

import pytest

from infra.engine import server
from infra.engine.failures import FAILURES, explain
from infra.ports import free_port
from infra.processes import Child, ChildFailed, Supervisor
from infra.settings import Settings
from models.cards.card import catalogue

# As SGLang 0.5.23, transformers 5.19, huggingface_hub, uvicorn and the kernel say it.  What needs a GPU to be said (PyTorch's and the
# CUDA driver's words) could not be heard here: those stand as they are commonly quoted.
SAID = {
    "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from http://www.nvidia.com/Download/index.aspx": "no NVIDIA driver was found",
    "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory": "no NVIDIA driver was found",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver": "driver is too old",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination": "driver does not fit",
    "RuntimeError: No CUDA GPUs are available": "no GPU can be seen",
    "AssertionError: Torch not compiled with CUDA enabled": "built for machines without a GPU",
    "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device": "no code for this generation",
    "ValueError: The quantization method awq_marlin is not supported for the current GPU. Minimum capability: 80. Current capability: 75.": "too old for these weights (compute capability 75, and they need 80)",
    "ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]": "these weights (awq) are not computed in torch.bfloat16",
    "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.5. Raise --mem-fraction-static above 0.612": "raise the card's `mem-fraction-static`",
    "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: mem_fraction_static=0.3": "raise the card's `mem-fraction-static`",
    "ValueError: NVFP4 w4a4 requires compute capability >= 10.0; serving it on this GPU is not possible": "it needs compute capability 10.0",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 320.00 MiB. GPU 0 has a total capacity of 22.03 GiB": "memory does not suffice",
    "[2026-11-20 13:39:51] Subprocess scheduler_0 (pid=5) crashed with exit code -9. Triggering SIGQUIT for cleanup...": "the kernel has killed a process",
    "OSError: [Errno 28] No space left on device: '/models/hub/blobs/abc.incomplete'": "the disk is full",
    "Cannot access gated repo for url https://huggingface.co/api/models/a/b.": "HF_TOKEN",
    "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic has been disabled.": "not in the cache",
    "OSError: nope is not a valid git identifier (branch name, tag name or commit id) that exists for this model name.": "no revision nope",
    "OSError: a/b is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'": "no such model",
    "ValueError: Unrecognized model in /models/empty. Should have a `model_type` key in its config.json.": "no such model",
    "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered": "damaged or incomplete",
    "[Errno 98] error while attempting to bind on address ('127.0.0.1', 31907): address already in use": "taken by another process",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.": "this machine's memory",
    "ModuleNotFoundError: No module named 'sglang'": "lacks sglang",
    "sglang serve: error: unrecognized arguments: --no-such-flag 3": "knows no --no-such-flag 3",
    "sglang serve: error: argument --schedule-policy: invalid choice: 'nope' (choose from 'lpm', 'random')": "this value of --schedule-policy",
}
NOISE = (
    "[2026-11-20 13:32:50] Ignore import error when loading sglang.srt.models.inkling: No module named 'cutlass'",
    "[2026-11-20 13:39:51] Received sigquit from a child process. It usually means the child failed.",
)
START_S, WITHIN_S = 240.0, 280.0


@pytest.mark.parametrize(("said", "means"), SAID.items())
def test_what_is_said_is_told_with_its_meaning(said, means):
    line = explain([NOISE[0], "Traceback (most recent call last):", said, NOISE[1]], "was killed by SIGKILL")
    assert means in line
    assert said.split(": ", 1)[-1].rpartition("] ")[2][:40] in line, "in the engine's own words"
    assert "\n" not in line
    assert "13:39" not in line


def test_every_row_is_shown_to_be_of_use():
    assert [failure for failure in FAILURES if not any(re.search(failure.said, said) for said in SAID)] == []


def test_the_cause_is_told_and_not_what_followed_from_it():
    lines = [
        "OSError: [Errno 28] No space left on device",
        "OSError: We couldn't connect to 'https://x' to load the files",
    ]
    assert explain(lines, "").startswith("the disk is full")
    assert explain(lines[::-1], "").startswith("the disk is full")


def test_what_nobody_foresaw_is_told_by_the_last_error():
    lines = ["ValueError: first", "  File x.py", "sglang.FooError: second", *NOISE]
    assert explain(lines, "was killed by SIGKILL") == "its last error is: sglang.FooError: second"
    assert explain(["KeyError: " + "x" * 1000], "").endswith("x …")


def test_silence_is_not_explained_away():
    assert explain(NOISE, "exited with status 1") == explain([], "exited with status 1") == ""
    assert "when memory runs out" in explain(NOISE, "was killed by SIGKILL")


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("changes", "means"),
    [
        (("--no-such-flag", "3"), "this release of SGLang knows no --no-such-flag 3"),
        (("--schedule-policy", "nope"), "this release of SGLang does not take this value of --schedule-policy"),
        (("--model-path", "/nowhere/at/all"), "there is no such model"),
        (("--model-path", "some-org/some-model"), "the model is not in the cache (HF_HOME), and it cannot be fetched"),
        (("--device", "cuda"), "this environment's PyTorch was built for machines without a GPU"),
    ],
    ids=["flag", "value", "folder", "offline", "cuda"],
)
async def test_the_real_one_is_explained(changes, means, tmp_path):
    card, env = catalogue()["tram-demo"], Settings(_env_file=None).engine_environment
    port = free_port("127.0.0.1")

    async def never() -> bool:
        return False

    variables = server.variables(card, "cpu") | {"HF_HOME": str(tmp_path)}
    argv = (*server.command(card, env=env, port=port, device="cpu"), *changes)
    engine = Child("engine", argv, variables, never, START_S, 1.0, log=tmp_path / "engine.log", explain=explain)
    with pytest.raises(ChildFailed) as failed:
        await asyncio.wait_for(Supervisor([engine], lambda _: None).run(asyncio.Event()), WITHIN_S)
    assert f": {means}" in failed.value.message
    assert "(the engine says: " in failed.value.message
