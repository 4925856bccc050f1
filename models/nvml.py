"""What the GPU that CUDA uses says of itself, through NVML, NVIDIA's management library.

For who has chosen that GPU: it takes the package nvidia-ml-py, the driver's library, and torch to find the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class NvmlError(Exception):
    """The GPU cannot be asked, or does not tell; the text says why."""


@dataclass(frozen=True)
class GpuState:
    """One moment of a GPU, whatever runs on it, but for the last.

    Args:
        power_w: drawn now; what "now" is averaged over differs between generations, by up to a second.
        memory_bytes: in use, by all processes.
        memory_limit_bytes: there is.
        utilization: 0 to 1, the share of NVML's last sample period, a sixth of a second to a second, in which something
            ran.
        reserved_bytes: what this process's PyTorch holds for tensors and CUDA graphs.
    """

    power_w: float
    memory_bytes: int
    memory_limit_bytes: int
    utilization: float
    reserved_bytes: int


class Gpu(Protocol):
    """A GPU that can be asked, from any thread. All methods raise NvmlError and may take some milliseconds."""

    @property
    def name(self) -> str:
        """Its name and its driver."""

    def energy_j(self) -> float:
        """Joules since its driver was loaded, of the whole card, whatever ran on it; rises in steps of up to 0.1 s."""

    def state(self) -> GpuState:
        """How it is now."""

    def close(self) -> None:
        """Ask no more."""


class NvmlGpu:
    """The GPU with a number of CUDA's, which is not NVML's: CUDA_VISIBLE_DEVICES counts, and so does CUDA's own order.

    It is found by its place on the PCI bus, which a MIG instance shares with its card: energy, power and utilisation
    are the card's. Raises NvmlError.
    """

    def __init__(self, device: int = 0) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise NvmlError("nvidia-ml-py is not installed: pip install 'lmht-serve[gpu]'") from error
        import torch

        self._nvml, self._torch, self._device = pynvml, torch, device
        if not torch.cuda.is_available():
            raise NvmlError("there is no CUDA device")
        place: Any = torch.cuda.get_device_properties(device)  # its stubs lack where it is
        bus = f"{place.pci_domain_id:08X}:{place.pci_bus_id:02X}:{place.pci_device_id:02X}.0"
        with self._asked():
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus)
            self._name = f"{pynvml.nvmlDeviceGetName(self._handle)}, driver {pynvml.nvmlSystemGetDriverVersion()}"

    @property
    def name(self) -> str:
        """See `Gpu`."""
        return self._name

    def energy_j(self) -> float:
        """See `Gpu`. Before the Volta generation there is no counter."""
        with self._asked():
            millijoules: int = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return millijoules / 1000

    def state(self) -> GpuState:
        """See `Gpu`."""
        with self._asked():
            milliwatts: int = self._nvml.nvmlDeviceGetPowerUsage(self._handle)
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            percent: int = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
        reserved = self._torch.cuda.memory_reserved(self._device)
        return GpuState(milliwatts / 1000, memory.used, memory.total, percent / 100, reserved)

    def close(self) -> None:
        """See `Gpu`."""
        with self._asked():
            self._nvml.nvmlShutdown()

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except self._nvml.NVMLError as error:
            raise NvmlError(f"NVML: {error}") from error
