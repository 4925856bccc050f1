"""Operations times prices, with all that no image changes worked out once.

Every profile is affine in the counts that vary from image to image, so an `Account` of a manifest, a number of
time-steps and a profile holds one constant and two vectors::

    snn_pj = fixed_pj + Σ_l spike_pj[l] · spikes[l] + Σ_l synop_pj[l] · synops[l]
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle import CountArray, Manifest
from models.energy.memory import WORD_BYTES, dense_access_pj, event_access_pj, neuron_access_pj
from models.energy.operations import Operations, dense_macs, fixed_operations, runs
from models.energy.profiles import DEFAULT_PROFILE, Profile, profile_named


@dataclass(frozen=True)
class Energy:
    """An estimate in nanojoules for one pass over one image.

    ``snn_nj`` and ``ratio`` = snn_nj / ann_nj are None where the profile does not apply, and ``note`` says why.
    ``ann_nj`` is the same architecture's single dense pass at the profile's price. ``synops`` and ``macs`` are those
    of `Operations`: they do not depend on the profile, and T-GIM and leak are priced in ``snn_nj`` but not in ``macs``.
    """

    profile: str
    snn_nj: float | None
    ann_nj: float | None
    ratio: float | None
    synops: float
    macs: float
    note: str | None


@dataclass(frozen=True, eq=False)
class Account:
    """All of an estimate that does not depend on the image; the vectors are float64 [layers], read-only."""

    profile: str
    fixed: Operations
    fixed_pj: float
    spike_pj: CountArray
    synop_pj: CountArray
    ann_nj: float
    note: str | None

    def operations(self, synops: CountArray) -> Operations:
        """The operations of a pass with these synaptic operations, float64 [layers]."""
        return replace(self.fixed, synops=float(synops.sum()))

    def estimate(self, spikes: CountArray, synops: CountArray) -> Energy:
        """The energy of one pass from its counts, float64 [layers] each. Raises ValueError on other shapes."""
        return self.estimate_batch(spikes[None], synops[None])[0]

    def estimate_batch(self, spikes: CountArray, synops: CountArray) -> list[Energy]:
        """The same for n images, float64 [n, layers] each; an image's estimate does not depend on its batch-mates."""
        if spikes.shape != synops.shape or spikes.ndim != 2 or spikes.shape[1:] != self.spike_pj.shape:
            raise ValueError(
                f"counts of shape {spikes.shape} and {synops.shape} for a network of {len(self.spike_pj)} layers"
            )
        # Not a matrix product: that may round a row differently in another batch.
        spent_pj = np.multiply(spikes, self.spike_pj, order="C").sum(axis=1)
        spent_pj += np.multiply(synops, self.synop_pj, order="C").sum(axis=1)
        totals = np.array(synops, order="C").sum(axis=1)
        return [
            self._energy(self.fixed_pj + pj, total)
            for pj, total in zip(spent_pj.tolist(), totals.tolist(), strict=True)
        ]

    def _energy(self, snn_pj: float, synops: float) -> Energy:
        snn_nj = None if self.note else snn_pj / 1000
        ratio = None if snn_nj is None else snn_nj / self.ann_nj
        return Energy(self.profile, snn_nj, self.ann_nj, ratio, synops, self.fixed.macs, self.note)


# By the manifest's identity: hashing its whole content for every image would cost more than the estimate.
_accounts: dict[int, dict[tuple[int, str], Account]] = {}


def account(manifest: Manifest, timesteps: int, profile: str = DEFAULT_PROFILE) -> Account:
    """The account of a pass of ``timesteps``; kept as long as the manifest lives, so asking again is a look-up.

    Raises ValueError for a profile that does not exist or timesteps below 1.
    """
    kept = _accounts.get(id(manifest))
    if kept is None:
        kept = _accounts.setdefault(id(manifest), {})
        # Runs before the id can become another manifest's.
        weakref.finalize(manifest, _accounts.pop, id(manifest), None).atexit = False
    found = kept.get((timesteps, profile))
    if found is None:
        found = kept.setdefault((timesteps, profile), _open(manifest, timesteps, profile_named(profile)))
    return found


def estimate(
    manifest: Manifest, timesteps: int, spikes: CountArray, synops: CountArray, profile: str = DEFAULT_PROFILE
) -> Energy:
    """The energy of one pass over one image.

    Args:
        manifest: of the bundle that was run.
        timesteps: of the pass.
        spikes: float64 [layers], unit spikes over all steps, as the engine returned them.
        synops: float64 [layers], synaptic operations over all edges and steps, likewise.
        profile: one of `PROFILES`.

    Raises:
        ValueError: for a profile that does not exist, timesteps below 1, or counts of another shape.
    """
    return account(manifest, timesteps, profile).estimate(spikes, synops)


def total(passes: Sequence[Energy]) -> Energy:
    """The energy of several passes over one image, of one network and under one profile.

    Spikes, operations and energy add up; the dense network that they are compared with still runs once.
    """
    first = passes[0]
    snn_nj = None if first.snn_nj is None else sum(each.snn_nj or 0.0 for each in passes)
    return replace(
        first,
        snn_nj=snn_nj,
        ratio=None if snn_nj is None or first.ann_nj is None else snn_nj / first.ann_nj,
        synops=sum(each.synops for each in passes),
        macs=sum(each.macs for each in passes),
    )


def _open(manifest: Manifest, timesteps: int, profile: Profile) -> Account:
    if timesteps < 1:
        raise ValueError(f"{timesteps} time-steps; at least 1 is needed")
    fixed = fixed_operations(manifest, timesteps)
    ann_pj = dense_macs(manifest) * profile.mac_pj
    note = None
    if profile.rule == "paper":
        fixed_pj, (spike_pj, synop_pj) = 0.0, _paper_prices(manifest, profile)
        note = _incomparable(manifest)
    else:
        spike_pj = np.zeros(len(manifest.layers))
        synop_pj = np.full(len(manifest.layers), profile.accumulate_pj)
        fixed_pj = fixed.macs * profile.mac_pj
        fixed_pj += (fixed.tgim_multiplications + fixed.leak_multiplications) * profile.neuron_mac_pj
    if profile.rule == "memory":
        dense_pj = [dense_access_pj(c, WORD_BYTES, WORD_BYTES) for c in manifest.connections]
        ann_pj += sum(dense_pj)
        fixed_pj += sum(
            runs(c, timesteps) * pj for c, pj in zip(manifest.connections, dense_pj, strict=True) if c.analog
        )
        fixed_pj += sum(neuron_access_pj(layer, timesteps) for layer in manifest.layers)
        accesses_pj = np.array([event_access_pj(manifest, layer, timesteps) for layer in manifest.layers])
        spike_pj += accesses_pj[:, 0]
        synop_pj += accesses_pj[:, 1]
    for vector in (spike_pj, synop_pj):
        vector.flags.writeable = False
    return Account(profile.name, fixed, fixed_pj, spike_pj, synop_pj, ann_pj / 1000, note)


def _paper_prices(manifest: Manifest, profile: Profile) -> tuple[CountArray, CountArray]:
    """What a unit spike and a synaptic operation of each layer cost by the paper's rule, float64 [layers] each."""
    spike_pj, synop_pj = np.zeros((2, len(manifest.layers)))
    for index, layer in enumerate(manifest.layers):
        windows = [edge.pool_window for edge in layer.edges if edge.kind != "identity"]
        if windows:
            synop_pj[index] = profile.accumulate_pj * layer.threshold / windows[0]
        # An identity adds exactly the layer's spikes to its synops; taking them out again leaves the others.
        spike_pj[index] = -synop_pj[index] * (len(layer.edges) - len(windows))
    return spike_pj, synop_pj


def _incomparable(manifest: Manifest) -> str | None:
    """Why the paper's rule does not apply; None when it does."""
    # The first connection is the stem, which the rule leaves out. A head behind an average pool reads fractions of
    # spikes, none of them negative, and its manifest does not call it analog.
    analog = [c.name for c in manifest.connections[1:] if c.analog]
    if analog:
        return f"not comparable: {', '.join(analog)} would sum signed values"
    for layer in manifest.layers:
        if len({edge.pool_window for edge in layer.edges if edge.kind != "identity"}) > 1:
            return f"not comparable: the spikes of {layer.name} are pooled differently on their ways"
    return None
