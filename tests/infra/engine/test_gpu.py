"""Is the driver understood, whatever it says?"""

import stat
import sys

import pytest

from infra.engine import gpu, server
from infra.engine.gpu import Installed
from models.cards.card import catalogue
from models.cards.gpus import Gpu
from models.errors import Unavailable

AWQ = catalogue()["mistral-small-24b-instruct-2501-awq"]
DEMO = catalogue()["tram-demo"]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts an `nvidia-smi` of these words on an otherwise empty PATH."""

    def says(words, *, status=0):
        program = tmp_path / "nvidia-smi"
        told = (
            f"import sys\nassert 'name,memory.total' in sys.argv[1], sys.argv\nprint({words!r})\nsys.exit({status})\n"
        )
        program.write_text(f"#!{sys.executable} -I\n{told}", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server, "_DEVICES", tmp_path)
    return says


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("NVIDIA H200, 143771", Installed("NVIDIA H200", 143771)),
        ("NVIDIA H200, 143771\nNVIDIA H200, 143770\n", Installed("NVIDIA H200", 143770)),
        ("NVIDIA H100 80GB HBM3, 81559 MiB\r\n", Installed("NVIDIA H100 80GB HBM3", 81559)),
        ("Tesla, of old, 46068.5", Installed("Tesla, of old", 46068)),
        ("NVIDIA A100-SXM4-80GB, [N/A]\nNVIDIA L40S, 46068", Installed("NVIDIA L40S", 46068)),
        ("NVIDIA GB10, [N/A]", None),
        ("No devices were found", None),
        ("", None),
    ],
)
def test_the_smallest_gpu_that_tells_its_memory_counts(lines, found):
    assert gpu.smallest(lines) == found


def test_the_driver_is_asked(driver):
    driver("NVIDIA H200, 143771")
    assert gpu.installed() == Installed("NVIDIA H200", 143771)
    assert gpu.installed().kind is Gpu.H200


def test_a_driver_that_fails_is_not_known(driver):
    driver("NVIDIA H200, 143771", status=9)
    assert gpu.installed() is None


def test_no_driver_is_not_known(driver):
    assert driver
    assert gpu.installed() is None


def test_a_driver_that_hangs_is_not_known(driver, monkeypatch, tmp_path):
    driver("")
    (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable} -I\nimport signal\nsignal.pause()\n", encoding="utf-8")
    monkeypatch.setattr(gpu, "_ASK_S", 0.5)
    assert gpu.installed() is None


def test_flags_and_concurrency_follow_from_the_class(driver):
    driver("NVIDIA H200, 143771")
    assert server.device() == "cuda"
    assert server.gpu_for("cuda") is Gpu.H200
    assert server.gpu_for("cpu") is None
    assert server.concurrency(AWQ) == 160
    assert server.concurrency(DEMO) == 24, "a toy stays on the CPU beside any GPU"


@pytest.mark.parametrize("words", ["NVIDIA GeForce RTX 4090, 24564", "NVIDIA GB10, [N/A]"])
def test_a_gpu_of_no_class_runs_what_any_gpu_does(driver, words):
    driver(words)
    assert server.gpu_for("cuda") is None
    assert server.concurrency(AWQ) == AWQ.concurrency == 40


def test_without_a_gpu_only_what_needs_none_has_a_concurrency(driver):
    assert driver
    assert server.concurrency(DEMO) == 24
    with pytest.raises(Unavailable, match="needs a GPU"):
        server.concurrency(AWQ)
