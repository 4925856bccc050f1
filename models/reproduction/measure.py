"""Accuracy, spikes, synaptic operations and energy of a network on test pictures, budget by budget."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from models.bundle import Engine, Manifest
from models.data import LabelledImages
from models.energy import account, rival
from models.evaluation import CHUNK, served
from models.export.exporter import assemble, card_of
from models.networks import Network
from models.reproduction.plan import Experiment
from models.reproduction.result import Measurement
from models.tools import OpenEngine

# Images a pass: a divisor of `CHUNK`.
_BATCH = 20


def measure_spiking(
    network: Network, experiment: Experiment, test: LabelledImages, open_engine: OpenEngine
) -> tuple[Measurement, ...]:
    """Measure through the exported float32 graphs, whose counts are exact."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = assemble(Path(folder) / "1", network, card_of(experiment.recipe, ""), "float32")
        engine = open_engine(bundle, provider="cpu", threads=1, batch_sizes=(_BATCH,))
        try:
            return tuple(_measured(bundle.manifest, t, engine, test) for t in bundle.manifest.timesteps)
        finally:
            engine.close()


def measure_ann(ann: Network, experiment: Experiment, test: LabelledImages) -> tuple[Measurement, ...]:
    """Measure a quantised ANN; its energy is that of the spiking network's shape in one dense pass."""
    with torch.inference_mode():
        logits = torch.cat([ann(part, 1) for part in torch.from_numpy(test.images).split(CHUNK)])
    correct = int((logits.argmax(1) == torch.from_numpy(test.labels)).sum())
    with tempfile.TemporaryDirectory() as folder:
        recipe = experiment.recipe
        manifest = assemble(Path(folder) / "1", recipe.build(), card_of(recipe, ""), "float32").manifest
    return (_measurement(manifest, 1, correct / len(test), len(test)),)


def _measured(manifest: Manifest, timesteps: int, engine: Engine, test: LabelledImages) -> Measurement:
    answers = served(engine, test.images, timesteps)
    accuracy = answers.correct(test.labels) / len(test)
    # Energy is affine in the counts, so that of the means is the mean.
    energy = account(manifest, timesteps).estimate(answers.mean_spikes, answers.mean_synops)
    return _measurement(manifest, timesteps, accuracy, len(test)).model_copy(
        update={
            "spikes": float(answers.mean_spikes.sum()),
            "synops": float(answers.mean_synops.sum()),
            "snn_nj": energy.snn_nj,
        }
    )


def _measurement(manifest: Manifest, timesteps: int, accuracy: float, samples: int) -> Measurement:
    quantised = rival(manifest, timesteps)
    return Measurement(
        timesteps=timesteps,
        accuracy=accuracy,
        samples=samples,
        spikes=None,
        synops=None,
        snn_nj=None,
        ann_nj=account(manifest, timesteps).ann_nj,
        rival_nj=quantised.nj,
        rival_bits=quantised.bits,
    )
