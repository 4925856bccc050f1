"""Accuracy: of a bundle as an engine serves it, and of its float32 network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.bundle import WEIGHTS, Bundle, CountArray, Engine, FloatArray
from models.data import LabelledImages

# Images a call: large enough to fill any engine's batch bucket, small enough to show progress.
CHUNK = 100
OnChunk = Callable[[int], None]


@dataclass(frozen=True)
class Answers:
    """What a classifier said of n images: logits float32 [n, classes]; per layer the mean counts an image, [layers]."""

    logits: FloatArray
    mean_spikes: CountArray
    mean_synops: CountArray

    def right(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the images it classified right, [n]."""
        right: npt.NDArray[np.bool_] = self.logits.argmax(1) == labels
        return right

    def correct(self, labels: npt.NDArray[np.int64]) -> int:
        """How many of the images it classified right."""
        return int(self.right(labels).sum())


def served(engine: Engine, images: FloatArray, timesteps: int, on_chunk: OnChunk = lambda done: None) -> Answers:
    """Run images [n, C, H, W] through an engine; on_chunk gets the number of images just done."""
    logits, spikes, synops = [], [], []
    for start in range(0, len(images), CHUNK):
        outputs = engine.run(images[start : start + CHUNK], timesteps)
        logits.append(outputs.logits)
        spikes.append(outputs.spikes)
        synops.append(outputs.synops)
        on_chunk(len(outputs.logits))
    return Answers(np.concatenate(logits), np.concatenate(spikes).mean(0), np.concatenate(synops).mean(0))


def float32(bundle: Bundle, images: FloatArray, timesteps: int, on_chunk: OnChunk = lambda done: None) -> FloatArray:
    """Logits [n, classes] of the float32 network that the bundle's weights make. Needs torch. Raises BundleError."""
    import torch

    network = network_of(bundle)
    logits = []
    with torch.inference_mode():
        for part in torch.from_numpy(images).split(CHUNK):
            logits.append(network(part, timesteps).numpy())
            on_chunk(len(part))
    return np.concatenate(logits)


def network_of(bundle: Bundle):  # type: ignore[no-untyped-def]  # models.networks.Network, which needs torch
    """The PyTorch network of a bundle, ready for inference. Raises BundleError when its weights do not fit."""
    from safetensors.torch import load

    from models import networks
    from models.bundle import BundleError

    architecture = bundle.manifest.architecture
    try:
        network = networks.build(architecture.name, architecture.parameters)
        network.load_state_dict(load(bundle.read(WEIGHTS)))
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{WEIGHTS}: does not make the network {architecture.name!r} ({error})") from error
    return network.eval()


def gap(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> str:
    """By how many points the second of two classifiers is right more often, [n] answers each to the same pictures.

    With the standard error of that difference, which is far below that of two samples of pictures.
    """
    points = 100 * (second.astype(np.float64) - first)
    return f"{points.mean():+.2f} ± {points.std(ddof=1) / len(points) ** 0.5:.2f}"


def correct(accuracy: float, data: LabelledImages) -> int:
    """The number of right answers that an accuracy in a manifest stands for."""
    return round(accuracy * len(data))
