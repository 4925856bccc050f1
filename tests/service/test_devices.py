"""Which device models run on, by what is asked for and what there is; NVIDIA's driver is a stand-in."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.version

from models.bundle import ZOO, Bundle, Engine
from service import engines, server
from service.app import create_app
from service.engines import EngineError, EngineOptions, devices
from service.engines.devices import choose
from service.engines.driver import Gpu, NoDriver, first_gpu
from service.server import ServerError
from service.settings import Settings
from tests.command_line import run
from tests.serving import RunningApp

H200 = Gpu("NVIDIA H200", cuda=(13, 1), capability=(9, 0))


@pytest.fixture(autouse=True)
def _nothing_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def there_is(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | str) -> None:
    """A GPU, or why there is none."""

    def found() -> Gpu:
        if isinstance(gpu, str):
            raise NoDriver(gpu)
        return gpu

    monkeypatch.setattr(devices, "first_gpu", found)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


# --- What is chosen --------------------------------------------------------------------------------------------------


def test_the_cpu_is_nothing_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "first_gpu", lambda: pytest.fail("it was looked for"))
    device = choose("cpu")
    assert (device.name, device.batch_sizes, device.concurrency, device.inline_ms) == ("cpu", (1, 4, 16), 1, 1.0)
    assert Settings().device == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_a_gpu_is_taken_by_who_asks_for_it(monkeypatch: pytest.MonkeyPatch, wanted: Any) -> None:
    there_is(monkeypatch, H200)
    device = choose(wanted)
    assert (device.name, device.interpreted) == ("cuda", False)
    assert device.reason == f"LMHT_DEVICE is {wanted}, and there is an NVIDIA H200"
    assert (device.batch_sizes, device.concurrency, device.inline_ms) == ((1, 8, 32, 128), 2, 0.0)


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None if name in missing else importlib.util.find_spec(name))


@pytest.mark.parametrize(
    ("gpu", "missing", "built_for", "words"),
    [
        ("no NVIDIA driver is installed here", (), "13.0", "no NVIDIA driver is installed here"),
        (H200, ("torch", "triton"), "13.0", "torch and triton are not installed: pip install 'lmht-serve[gpu]'"),
        (H200, ("triton",), "13.0", "triton is not installed: pip install 'lmht-serve[gpu]'"),
        (H200, (), None, "the PyTorch installed here is one for CPUs alone: install one for CUDA"),
        (
            Gpu("NVIDIA L4", (12, 8), (8, 9)),
            (),
            "13.0",
            "the NVIDIA driver is too old: it runs CUDA 12.8, and the PyTorch installed here is built for 13.0. "
            "Install a newer driver, or a PyTorch for CUDA 12",
        ),
        (
            Gpu("Tesla T4", (13, 1), (7, 5)),
            (),
            "13.0",
            "the Tesla T4 is of compute capability 7.5, and Triton needs 8.0",
        ),
    ],
)
def test_without_what_it_takes_cuda_says_what_is_missing_and_auto_takes_the_cpu(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | str, missing: tuple[str, ...], built_for: str | None, words: str
) -> None:
    there_is(monkeypatch, gpu)
    without(monkeypatch, *missing)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(EngineError) as error:
        choose("cuda")
    assert str(error.value) == f"LMHT_DEVICE=cuda: {words}; LMHT_DEVICE=cpu serves without a GPU"
    assert choose("auto") == devices.Device("cpu", f"LMHT_DEVICE is auto, and {words}")


@pytest.mark.parametrize("cuda", [(13, 0), (13, 9), (14, 0)])
def test_a_driver_of_the_same_or_a_later_generation_will_do(
    monkeypatch: pytest.MonkeyPatch, cuda: tuple[int, int]
) -> None:
    there_is(monkeypatch, Gpu("NVIDIA A100", cuda, (8, 0)))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert choose("cuda").name == "cuda"


@pytest.mark.parametrize(("value", "interpreted"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_interpreted_kernels_are_for_who_asks_for_cuda_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str, interpreted: bool
) -> None:
    there_is(monkeypatch, H200)
    monkeypatch.setenv("TRITON_INTERPRET", value)
    device = choose("cuda")
    assert (device.name, device.interpreted) == ("cuda", interpreted)
    assert device.batch_sizes == ((1, 4) if interpreted else (1, 8, 32, 128))
    assert choose("auto").name == ("cpu" if interpreted else "cuda")


def test_interpreting_takes_the_packages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    without(monkeypatch, "safetensors")
    with pytest.raises(EngineError, match=r"safetensors is not installed: pip install 'lmht-serve\[gpu\]'"):
        choose("cuda")


# --- The driver ------------------------------------------------------------------------------------------------------


class Library:
    """libcuda, as far as it is asked. ``status``: what a function returns, by its name."""

    def __init__(self, devices: int = 1, **status: int) -> None:
        self.devices, self.status = devices, status

    def _answer(self, name: str, into: Any, value: int) -> int:
        into._obj.value = value
        return self.status.get(name, 0)

    def cuDriverGetVersion(self, version: Any) -> int:
        return self._answer("cuDriverGetVersion", version, 12080)

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.status.get("cuInit", 0)

    def cuDeviceGetCount(self, count: Any) -> int:
        return self._answer("cuDeviceGetCount", count, self.devices)

    def cuDeviceGet(self, device: Any, number: int) -> int:
        assert number == 0
        return self._answer("cuDeviceGet", device, 7)

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:
        assert device.value == 7
        assert len(name) == size
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
        assert device.value == 7
        return self._answer("cuDeviceGetAttribute", value, {75: 9, 76: 0}[attribute])


def test_the_driver_tells_what_there_is() -> None:
    asked = []

    def open_library(name: str) -> Library:
        asked.append(name)
        return Library()

    assert first_gpu(open_library) == Gpu("NVIDIA H100", (12, 8), (9, 0))
    assert asked == ["libcuda.so.1"]


def test_without_a_driver_or_a_gpu_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Library:
        raise OSError("libcuda.so.1: cannot open shared object file")

    with pytest.raises(NoDriver, match="no NVIDIA driver is installed here"):
        first_gpu(absent)
    with pytest.raises(NoDriver, match=r"the NVIDIA driver does not start \(CUresult 803\)"):
        first_gpu(lambda name: Library(cuInit=803))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(NoDriver, match=r"the NVIDIA driver shows no GPU$"):
        first_gpu(lambda name: Library(cuInit=100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NoDriver, match=r"shows no GPU \(CUDA_VISIBLE_DEVICES is ''\)"):
        first_gpu(lambda name: Library(devices=0))


# --- A server --------------------------------------------------------------------------------------------------------


def test_a_server_without_the_gpu_that_it_is_to_use_does_not_start(
    monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    there_is(monkeypatch, "no NVIDIA driver is installed here")
    code, _, complaint = run("serve", "--port", "0", "--models", str(repository), "--device", "cuda")
    assert code == 1
    words = "lmht: LMHT_DEVICE=cuda: no NVIDIA driver is installed here; LMHT_DEVICE=cpu serves without a GPU"
    assert complaint.split() == words.split()
    monkeypatch.setenv("LMHT_DEVICE", "cuda")
    with pytest.raises(ServerError, match="no NVIDIA driver"):
        server.run(Settings(models=(repository,), port=0))
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        create_app(Settings(models=(repository,)))


def test_classifying_here_ends_with_the_same_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there_is(monkeypatch, "no NVIDIA driver is installed here")
    monkeypatch.setenv("LMHT_DEVICE", "cuda")
    code, _, complaint = run("classify", str(tmp_path))
    assert code == 1
    assert "no NVIDIA driver is installed here" in " ".join(complaint.split())


def test_evaluating_on_a_gpu_that_there_is_not_ends_with_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    there_is(monkeypatch, "no NVIDIA driver is installed here")
    code, _, complaint = run("evaluate", str(ZOO / "mnist" / "1"), "--device", "cuda")
    assert code == 1
    assert "no NVIDIA driver is installed here" in " ".join(complaint.split())


def test_a_device_that_there_is_not_is_refused_by_its_variable() -> None:
    code, _, complaint = run("serve", "--device", "tpu")
    assert code == 1
    assert "LMHT_DEVICE" in complaint


def test_auto_falls_back_to_the_cpu_and_says_why_in_card_and_log(
    monkeypatch: pytest.MonkeyPatch, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there_is(monkeypatch, "the NVIDIA driver shows no GPU")
    reason = "LMHT_DEVICE is auto, and the NVIDIA driver shows no GPU"
    with caplog.at_level(logging.INFO, "lmht"):
        app = create_app(Settings(models=(repository,), device="auto", threads=1, batch_sizes=(1,), provider="cpu"))
    assert f"models run on the CPU: {reason}" in caplog.messages
    with RunningApp(app) as running:
        card = running.ready().get("/v1/models/tiny").json()
    assert card["device"] == {"name": "cpu", "reason": reason}
    assert card["engine"] == "onnxruntime/CPUExecutionProvider"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("cuda", (1, 4), "auto", 0.0)),
        ({"batch_sizes": (2,), "cuda_precision": "float16", "inline_ms": 3}, ("cuda", (2,), "float16", 0.003)),
        ({"device": "cpu"}, ("cpu", (1, 4, 16), "auto", 0.001)),
    ],
)
def test_settings_that_are_not_said_are_what_suits_the_device(
    monkeypatch: pytest.MonkeyPatch, repository: Path, settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    seen: list[EngineOptions] = []

    def refuse(bundle: Bundle, options: EngineOptions, rest: Any) -> Engine:
        seen.append(options)
        raise EngineError("enough was seen")

    monkeypatch.setattr(engines, "open_engine", refuse)
    with RunningApp(create_app(Settings(models=(repository,), **{"device": "cuda", **settings}))) as running:
        inline_s = running.ready().services.scheduler._limits.inline_s
    (options,) = seen
    assert (options.device, options.batch_sizes, options.precision, inline_s) == expected


def test_the_default_is_said_in_the_card_and_not_in_the_log(
    server: RunningApp, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lmht"):
        create_app(Settings(models=(repository,)))
    assert not [line for line in caplog.messages if "models run on" in line]
    assert server.get("/v1/models/tiny").json()["device"] == {"name": "cpu", "reason": "LMHT_DEVICE is cpu"}


def test_looking_for_a_gpu_in_vain_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(torch=None, triton=None, safetensors=None)\n"  # as where they are not installed
        "from service.engines import devices\n"
        "from service.engines.driver import NoDriver\n"
        "def none():\n"
        "    raise NoDriver('no driver')\n"
        "devices.first_gpu = none\n"
        "print(devices.choose('auto').reason)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "LMHT_DEVICE is auto, and no driver\n"
