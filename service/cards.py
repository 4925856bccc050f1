"""The model card and the list of models, from what the registry holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from models import energy
from models.bundle import Budget, CountArray, Manifest
from models.energy import PROFILES
from service import pictures, schemas
from service.engines.devices import Device
from service.loading import ServedModel


def model_list(models: Iterable[ServedModel], failures: Mapping[str, str]) -> schemas.ModelList:
    """All served models, and those that could not be loaded."""
    return schemas.ModelList(
        models=[
            schemas.ModelSummary(
                name=served.name,
                version=str(served.version),
                description=served.manifest.description,
                classes=len(served.manifest.classes),
                timesteps=list(served.manifest.timesteps),
            )
            for served in models
        ],
        failed=dict(failures),
    )


def device_card(device: Device) -> schemas.DeviceCard:
    """What the models run on, as every card says it."""
    return schemas.DeviceCard(name=device.name, reason=device.reason)


def model_card(served: ServedModel, device: schemas.DeviceCard) -> schemas.ModelCard:
    """All there is to know about a served model before using it."""
    manifest = served.manifest
    return schemas.ModelCard(
        name=served.name,
        version=str(served.version),
        description=manifest.description,
        engine=served.engine.name,
        device=device,
        classes=list(manifest.classes),
        levels=manifest.levels,
        tgim=manifest.tgim,
        architecture=manifest.architecture.model_dump(),
        input=_input(manifest),
        layers=[
            schemas.LayerCard(
                name=layer.name, neurons=layer.neurons, threshold=layer.threshold, tgim=layer.tgim, leak=layer.leak
            )
            for layer in manifest.layers
        ],
        budgets=[_budget(manifest, budget, served.seconds[budget.timesteps][1] * 1000) for budget in manifest.budgets],
        energy_profiles=[
            schemas.EnergyProfile(name=p.name, description=p.description, assumptions=list(p.assumptions))
            for p in PROFILES.values()
        ],
        made_by=manifest.made_by,
    )


def spike_counts(manifest: Manifest, counts: CountArray) -> schemas.Spikes:
    """Spikes per layer, float64 [layers], with their names and shares."""
    return schemas.Spikes(
        total=float(counts.sum()),
        per_neuron=float(counts.sum()) / sum(layer.neurons for layer in manifest.layers),
        layers=[
            schemas.LayerSpikes(name=layer.name, count=count, per_neuron=count / layer.neurons)
            for layer, count in zip(manifest.layers, counts.tolist(), strict=True)
        ],
    )


def _input(manifest: Manifest) -> schemas.InputCard:
    spec = manifest.input
    return schemas.InputCard(
        channels=spec.channels,
        height=spec.height,
        width=spec.width,
        value_range=list(spec.value_range),
        mean=list(spec.mean),
        std=list(spec.std),
        picture=schemas.PictureCard(
            method=spec.picture.method,
            box=None if spec.picture.box is None else list(spec.picture.box),
            background=spec.picture.background,
            formats=list(pictures.FORMATS),
        ),
    )


def _budget(manifest: Manifest, budget: Budget, latency_ms: float | None) -> schemas.BudgetCard:
    accuracy, agreement = budget.accuracy, budget.agreement
    return schemas.BudgetCard(
        timesteps=budget.timesteps,
        precision=budget.precision,
        accuracy=None if accuracy is None else schemas.AccuracyCard(**accuracy.model_dump()),
        agreement=None if agreement is None else schemas.AgreementCard(**agreement.model_dump()),
        temperature=budget.temperature,
        mean_spikes=None if budget.mean_spikes is None else spike_counts(manifest, np.array(budget.mean_spikes)),
        energy=_energies(manifest, budget),
        latency_ms=latency_ms,
    )


def _energies(manifest: Manifest, budget: Budget) -> list[schemas.EnergyCard]:
    if budget.mean_spikes is None or budget.mean_synops is None:
        return []
    spikes, synops = np.array(budget.mean_spikes), np.array(budget.mean_synops)
    cards = []
    for profile in PROFILES:
        estimate = energy.estimate(manifest, budget.timesteps, spikes, synops, profile)
        rival = energy.rival(manifest, budget.timesteps, profile)
        cards.append(
            schemas.EnergyCard(
                profile=profile,
                snn_nj=estimate.snn_nj,
                ann_nj=estimate.ann_nj,
                ratio=estimate.ratio,
                synops=estimate.synops,
                macs=estimate.macs,
                note=estimate.note,
                quantised_ann=schemas.Rival(
                    bits=rival.bits,
                    nj=rival.nj,
                    macs=rival.macs,
                    ratio=None if estimate.snn_nj is None else estimate.snn_nj / rival.nj,
                    assumptions=list(rival.assumptions),
                ),
            )
        )
    return cards
