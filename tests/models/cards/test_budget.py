"""Do the cards' flags follow from the arithmetic, and is the arithmetic SGLang's?"""

import json
import re
import subprocess
from importlib.resources import files

import pytest

from infra.settings import Settings
from models.cards.budget import MOST_RUNNING, PLANNED_TOKENS, budget, kv_bytes_per_token, running_for
from models.cards.card import Architecture, Card, catalogue
from models.cards.gpus import CLASSES, Gpu
from models.errors import InvalidRequest

DEMO = catalogue()["tram-demo"]
AWQ = catalogue()["mistral-small-24b-instruct-2501-awq"]
VISION = catalogue()["mistral-small-3.1-24b-instruct-2503"]
ON_GPUS = [(card, gpu) for card in catalogue().values() if "cuda" in card.devices for gpu in Gpu]
each_pair = pytest.mark.parametrize(("card", "gpu"), ON_GPUS, ids=[f"{card.id}-{gpu}" for card, gpu in ON_GPUS])
ANSWER_S = 60.0

# What SGLang decides at its start, by its own function; around it stands only what it would read from flags and a checkpoint.
SGLANG = """
import json, sys
from types import SimpleNamespace as Of
from unittest import mock
from sglang.srt.arg_groups import cuda_graph_hook, memory_hook
from sglang.srt.arg_groups.model_overrides import qwen3_vl
from sglang.srt.model_executor.cuda_graph_config import Backend, CudaGraphConfig, PhaseConfig

def decided(memory_mib, running, vision):
    graphs = CudaGraphConfig(decode=PhaseConfig(backend=Backend.FULL), prefill=PhaseConfig(backend=Backend.BREAKABLE))
    args = Of(device="cuda", tp_size=1, pp_size=1, disaggregation_mode="null", model_path="", max_running_requests=running,
        chunked_prefill_size=None, cuda_graph_config=graphs, mem_fraction_static=None, max_total_tokens=None,
        speculative_algorithm=None, disable_cuda_graph_padding=False, enable_symm_mem=False, moe_a2a_backend="none",
        language_only=False, language_model_only=False)
    tower = Of(num_hidden_layers=vision["layers"], hidden_size=vision["hidden"]) if vision else None
    model = Of(is_multimodal=bool(vision), hf_config=Of(vision_config=tower))
    given = dict(resolving_view=lambda of: of, resolved_view=lambda of: of, get_device_memory_capacity=lambda _: memory_mib,
        declare_resolution=lambda of, _, **values: vars(of).update(values), model_config_of=lambda _: model,
        post_capture_kv_sizing_planned=lambda _: False, use_mla_backend=lambda _: False, attn_dp_enabled_of=lambda _: False)
    with (mock.patch.multiple(memory_hook, **given), mock.patch.object(cuda_graph_hook, "resolving_view", lambda of: of),
            mock.patch.object(qwen3_vl, "expand_multimodal_decode_graph_to_running_limit", lambda *_: None)):
        memory_hook.handle_gpu_memory_settings(args)
    return [args.mem_fraction_static, args.cuda_graph_config.decode.max_bs]

print(json.dumps([decided(*asked) for asked in json.loads(sys.argv[1])]))
"""


def on_gpu(memory_mib, running, *, vision=None):
    """A model of the 24B's shape."""
    shape = AWQ.architecture.model_copy(update={"vision": vision})
    flags = AWQ.flags.model_copy(update={"gpu": {Gpu.H200: {"max-running-requests": running}}})
    return budget(AWQ.model_copy(update={"architecture": shape, "flags": flags}), "cuda", Gpu.H200, memory_mib)


@each_pair
def test_a_card_fits_where_it_has_flags_for(card, gpu):
    held = budget(card, "cuda", gpu)
    assert gpu in card.flags.gpu
    assert held.fits
    assert held.kv_tokens >= card.context_tokens


@each_pair
def test_running_requests_are_what_the_cache_justifies(card, gpu):
    held = budget(card, "cuda", gpu)
    assert held.running == running_for(held.kv_tokens)
    assert held.memory.graph_batch == held.running, "beyond the captured graphs each step is slower"


@each_pair
def test_what_a_worker_adds_keeps_the_engine_choosing_by_prefix(card, gpu):
    held = budget(card, "cuda", gpu)
    assert 1 <= held.waiting <= 128
    assert held.concurrency == card.concurrency_on("cuda", gpu) == held.running + held.waiting
    assert card.flags_on("cuda", gpu)["schedule-policy"] == "lpm"


@each_pair
def test_the_comments_beside_the_flags_say_the_same(card, gpu):
    """In the file: `[flags.gpu.l40s]  # … 159,000 tokens, 4.8 full contexts`."""
    text = (files("models.cards") / f"{card.id}.toml").read_text(encoding="utf-8")
    part = text.partition(f"[flags.gpu.{gpu}]")[2].partition("[flags.gpu.")[0]
    held = budget(card, "cuda", gpu)
    static_gib = (held.kv_bytes + card.architecture.weights_bytes) / 2**30
    said = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,.]*\d", part)}
    assert any(abs(tokens - held.kv_tokens) < 1000 for tokens in said)
    assert any(abs(gib - static_gib) < 0.2 for gib in said)
    assert round(held.full_contexts, 1) in {round(contexts, 1) for contexts in said}


def test_only_a_full_context_justifies_a_cache_in_fp8():
    flags = VISION.flags.model_copy(update={"gpu": {gpu: {"max-running-requests": 32} for gpu in Gpu}})
    without = VISION.model_copy(update={"flags": flags})
    assert {gpu for gpu in Gpu if not budget(without, "cuda", gpu).fits} == {Gpu.L40S}
    assert {gpu for gpu in Gpu if "kv-cache-dtype" in VISION.flags_on("cuda", gpu)} == {Gpu.L40S}


def test_a_token_of_cache_is_a_key_and_a_value_in_every_layer():
    assert kv_bytes_per_token(AWQ.architecture, {}) == 160 * 1024
    assert kv_bytes_per_token(AWQ.architecture, {"kv-cache-dtype": "fp8_e5m2"}) == 80 * 1024
    assert kv_bytes_per_token(AWQ.architecture, {"kv-cache-dtype": "bfloat16"}) == 160 * 1024
    assert kv_bytes_per_token(DEMO.architecture, {}) == 768


def test_on_a_cpu_the_card_says_how_large_the_cache_is():
    held = budget(DEMO, "cpu")
    assert held.memory is None
    assert (held.kv_tokens, held.running, held.waiting, held.concurrency) == (65536, 16, 8, 24)
    assert held.kv_bytes == 65536 * 768
    assert held.fits


def test_the_machines_own_memory_goes_before_the_classes():
    assert budget(AWQ, "cuda", None, 24_564).memory.total_mib == 24_564
    assert not budget(AWQ, "cuda", None, 24_564).fits
    assert budget(VISION, "cuda", None, 24_564).kv_tokens == 0
    assert budget(AWQ, "cuda", Gpu.H200).memory.total_mib == CLASSES[Gpu.H200].memory_mib


def test_what_cannot_be_computed_is_said():
    with pytest.raises(InvalidRequest, match="which GPU"):
        budget(AWQ, "cuda")
    with pytest.raises(InvalidRequest, match="no architecture"):
        budget(AWQ.model_copy(update={"architecture": None}), "cuda", Gpu.H200)
    with pytest.raises(ValueError, match="not served on cpu"):
        budget(AWQ, "cpu")


@pytest.mark.parametrize(
    ("kv_tokens", "running"),
    [(0, 1), (5 * PLANNED_TOKENS, 1), (9 * PLANNED_TOKENS, 8), (40 * PLANNED_TOKENS - 1, 32), (10**6, MOST_RUNNING)],
)
def test_running_requests_come_in_steps(kv_tokens, running):
    assert running_for(kv_tokens) == running


def test_an_operators_own_flags_count():
    flags = {**AWQ.flags_on("cuda", Gpu.H200), "mem-fraction-static": 0.5, "cuda-graph-max-bs-decode": 16}
    card = Card.model_validate(AWQ.model_dump(exclude={"flags"}) | {"flags": {"cuda": flags}})
    memory = budget(card, "cuda", Gpu.H200).memory
    assert (memory.static_fraction, memory.graph_batch) == (0.5, 16)


def test_the_demos_numbers_are_its_files():
    folder = files("infra.engine") / "cpu" / "model"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = (folder / "model.safetensors").read_bytes()
    head_bytes = 8 + int.from_bytes(weights[:8], "little")
    assert DEMO.architecture == Architecture(
        layers=config["num_hidden_layers"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        weights_bytes=len(weights) - head_bytes,
    )


def test_the_24bs_weights_follow_from_its_shape():
    hidden, inner, layers, vocabulary, group = 5120, 32768, 40, 131072, 128
    queries, keys = 32 * 128, 8 * 128
    linear = layers * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner)
    rest_bytes = 2 * (2 * vocabulary * hidden + (2 * layers + 1) * hidden)
    int4_bytes = linear // 2 + linear * 5 // (2 * group)
    assert AWQ.architecture.weights_bytes == int4_bytes + rest_bytes
    scales_bytes = 4 * layers * (queries + 2 * keys + 2 * hidden + 2 * inner)
    tower = 24 * (4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024) + 3 * 14**2 * 1024 + 1024
    projector = 1024 + 4 * 1024**2 + 1024 * hidden + hidden**2
    assert VISION.architecture.weights_bytes == linear + scales_bytes + rest_bytes + 2 * (tower + projector)


@pytest.mark.engine
def test_memory_is_divided_as_sglang_divides_it():
    tower = VISION.architecture.vision
    wide = tower.model_copy(update={"layers": 48, "hidden": 1664})
    asked = [
        (memory_mib, running, vision)
        for memory_mib in (16_376, 24_564, 40_960, *(of.memory_mib for of in CLASSES.values()), 183_359)
        for running in (8, 32, 56, 128, 300, 600)
        for vision in (None, tower, wide)
    ]
    python = Settings(_env_file=None).engine_environment / "bin" / "python"
    wanted = json.dumps([(memory, running, vision and vision.model_dump()) for memory, running, vision in asked])
    done = subprocess.run(
        [python, "-P", "-W", "ignore", "-c", SGLANG, wanted],
        check=False, capture_output=True, text=True, timeout=ANSWER_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = [on_gpu(memory, running, vision=vision).memory for memory, running, vision in asked]
    assert [(of.static_fraction, of.graph_batch) for of in ours] == [
        (pytest.approx(fraction, abs=1e-9), graphs) for fraction, graphs in json.loads(done.stdout)
    ]
