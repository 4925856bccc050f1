"""`CudaEngine`: a bundle on a GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from models.bundle import Bundle, FloatArray, Outputs
from models.fused import FusedNetwork, Weights
from models.fused.bundles import graphs
from service.engines import EngineError, EngineOptions
from service.engines.batches import Batches
from service.engines.cuda.passes import DirectPasses, MakePasses, Passes
from service.engines.devices import interpreted


class CudaEngine:
    """Runs a bundle's network, made again from its weights, which are on the GPU once for all budgets.

    See `models.bundle.Engine`. Raises BundleError where the weights do not make the network that the manifest
    describes, EngineError where the GPU has too little memory left or fails.

    Args:
        bundle: what to run.
        options: how.
        rest: see `service.engines.open_engine`.
        make_passes: how batches are run; as CUDA graphs, or directly where kernels are interpreted.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: EngineOptions,
        rest: Callable[[float], None] = lambda seconds: None,
        make_passes: MakePasses | None = None,
    ) -> None:
        device = torch.device("cpu" if interpreted() else "cuda:0")
        self._name = "triton/interpreter" if interpreted() else f"triton/cuda:{torch.cuda.get_device_name(device)}"
        self._batch_sizes = options.batch_sizes
        failure = ""
        try:
            self._passes: Passes = _load(bundle, options, device, rest, make_passes or _make_passes())
        except RuntimeError as error:
            failure = _words(error)
        if failure:
            # Only now: with the exception, what was on the GPU already is gone.
            _release()
            raise EngineError(failure)
        try:
            sizes = dict.fromkeys(bundle.manifest.timesteps, options.batch_sizes)
            self._batches = Batches(bundle.manifest.input.shape, sizes, self._pass)
        except BaseException:
            self._passes.close()
            _release()
            raise

    @property
    def name(self) -> str:
        """Triton, and the GPU."""
        return self._name

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch buckets, ascending."""
        return self._batch_sizes

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        """Classify images, float32 [n, C, H, W], at an exported budget.

        Raises ValueError for images of another shape or type or a budget that there is not, EngineError when the GPU
        fails.
        """
        return self._batches.run(images, timesteps)

    def close(self) -> None:
        """Release the GPU's memory."""
        self._batches.close()
        self._passes.close()
        _release()

    def _pass(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        try:
            return self._passes.run(images, timesteps, size)
        except RuntimeError as error:
            raise EngineError(_words(error)) from error


def _load(
    bundle: Bundle,
    options: EngineOptions,
    device: torch.device,
    rest: Callable[[float], None],
    make_passes: MakePasses,
) -> Passes:
    """Raises BundleError, and RuntimeError for what PyTorch says."""
    weights = Weights(device)
    networks = {
        budget.timesteps: FusedNetwork(
            graph, weights, budget.precision if options.precision == "auto" else options.precision
        )
        for budget, graph in zip(bundle.manifest.budgets, graphs(bundle).values(), strict=True)
    }
    return make_passes(networks, options.batch_sizes, rest)


def _make_passes() -> MakePasses:
    if interpreted():
        return DirectPasses
    from service.engines.cuda.captured import CapturedPasses

    return CapturedPasses


def _words(error: RuntimeError) -> str:
    """PyTorch's text is a page of advice about its own settings."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"the GPU's memory is full: {str(error).partition('. ')[0][:200]}"
    return f"PyTorch: {str(error).partition(chr(10))[0][:500]}"


def _release() -> None:
    """Give what PyTorch keeps for later back to the GPU, for others to load."""
    gc.collect()
    torch.cuda.empty_cache()
