"""Energy estimates against sums worked out by hand, and the rules that every profile keeps."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import weakref
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import Architecture, Budget, Connection, CountArray, Edge, InputSpec, Layer, Manifest, Picture
from models.energy import DEFAULT_PROFILE, PROFILES, account, estimate, rival
from models.energy.memory import access_pj

STEM = Connection(
    name="stem", kind="conv", macs=288, weights=18, inputs=16, outputs=32, analog=True, runs="once"
)  # 1 → 2 channels, 3×3, on 4×4
SECOND = Connection(
    name="second", kind="conv", macs=576, weights=36, inputs=32, outputs=32, analog=False, runs="each_step"
)  # 2 → 2 channels, 3×3, on 4×4
HEAD = Connection(name="head", kind="linear", macs=6, weights=6, inputs=2, outputs=3, analog=False, runs="once")
A = Layer(
    name="a",
    neurons=32,
    threshold=1.0,
    tgim="gains",
    leak=True,
    edges=(Edge(target="second", kind="conv", fan_out=18), Edge(target="b", kind="identity", fan_out=1)),
)
B = Layer(
    name="b",
    neurons=32,
    threshold=0.5,
    tgim="full",
    leak=True,
    edges=(Edge(target="head", kind="linear", fan_out=3, pool_window=16),),
)
# One image at T = 2: layer a fired 10 spikes, which reach 150 synapses of `second` and 10 of the identity; layer b
# fired 8, which reach 3 outputs each.
SPIKES = np.array([10.0, 8.0])
SYNOPS = np.array([160.0, 24.0])


def manifest(
    layers: tuple[Layer, ...] = (A, B),
    connections: tuple[Connection, ...] = (STEM, SECOND, HEAD),
    *,
    tgim: Literal["full", "factored", "none"] = "full",
    levels: int = 2,
) -> Manifest:
    return Manifest(
        name="tiny",
        description="for tests",
        classes=("x", "y", "z"),
        input=InputSpec(channels=1, height=4, width=4, mean=(0.0,), std=(1.0,), picture=Picture()),
        architecture=Architecture(name="tiny"),
        levels=levels,
        tgim=tgim,
        budgets=(Budget(timesteps=2, file="t2.onnx", precision="float32"),),
        layers=layers,
        connections=connections,
        files={"t2.onnx": "0" * 64},
    )


def changed(record: Any, **fields: Any) -> Any:
    """A copy of a manifest's record with other fields, validated."""
    return type(record).model_validate(record.model_dump() | fields)


TINY = manifest()


def test_the_operations_of_a_pass_are_counted_layer_by_layer() -> None:
    operations = account(TINY, 2).operations(SYNOPS)
    assert operations.synops == 184
    assert operations.macs == 288
    assert operations.tgim_multiplications == 32 * 2 + 32 * 4
    assert operations.leak_multiplications == 32 + 32
    assert operations.neuron_updates == 2 * 64


def test_horowitz_fp32_is_the_sum_worked_out_by_hand() -> None:
    energy = estimate(TINY, 2, SPIKES, SYNOPS)
    # 184 accumulates            × 0.9 =  165.6 pJ
    # 288 MACs of the stem       × 4.6 = 1324.8
    # 192 T-GIM multiplications  × 4.6 =  883.2
    #  64 leak multiplications   × 4.6 =  294.4      together 2668.0 pJ
    # 870 MACs of the dense pass × 4.6 = 4002.0 pJ
    assert energy.profile == DEFAULT_PROFILE == "horowitz-45nm-fp32"
    assert energy.snn_nj == pytest.approx(2.668, rel=1e-12)
    assert energy.ann_nj == pytest.approx(4.002, rel=1e-12)
    assert energy.ratio == pytest.approx(2.668 / 4.002, rel=1e-12)
    assert (energy.synops, energy.macs, energy.note) == (184, 288, None)


def test_horowitz_int8_is_the_sum_worked_out_by_hand() -> None:
    energy = estimate(TINY, 2, SPIKES, SYNOPS, "horowitz-45nm-int8")
    # 184 × 0.1 + 288 × 0.3 + (192 + 64) × 3.2 = 18.4 + 86.4 + 819.2 = 924.0 pJ; dense 870 × 0.3 = 261.0 pJ
    assert energy.snn_nj == pytest.approx(0.924, rel=1e-12)
    assert energy.ann_nj == pytest.approx(0.261, rel=1e-12)


def test_the_papers_rule_is_the_sum_worked_out_by_hand() -> None:
    energy = estimate(TINY, 2, SPIKES, SYNOPS, "paper")
    # Layer a: (160 − 10 of the identity) × θ 1.0      × 0.9 = 135.0 pJ
    # Layer b:  24                        × θ 0.5 / 16 × 0.9 =   0.675 pJ
    assert energy.snn_nj == pytest.approx(0.135675, rel=1e-12)
    assert energy.ann_nj == pytest.approx(4.002, rel=1e-12)
    assert (energy.synops, energy.macs) == (184, 288)


def test_memory_aware_is_the_sum_worked_out_by_hand() -> None:
    energy = estimate(TINY, 2, SPIKES, SYNOPS, "memory-aware")
    # Everything is smaller than 8 KiB: 10 pJ an access.
    # stem            288 weights + 288 inputs + 32 outputs                       =  608
    # neurons a       32 × (2 steps × (read + write) + 2 currents)                =  192
    # neurons b       32 × (2 steps × (read + write) + 4 currents)                =  256
    # synops          (150 + 24) × (weight + current read + current write)        =  522
    # identity        10 × (current read + current write)                         =   20
    # spikes          a: 10 × (1 write + 2 reads), b: 8 × (1 write + 1 read)      =   46     together 1644
    assert energy.snn_nj == pytest.approx((2668.0 + 16440) / 1000, rel=1e-12)
    # dense: stem 608; second 576 + 576 + 32; head 6 weights + 2 inputs (each once) + 3 outputs: 1803
    assert energy.ann_nj == pytest.approx((4002.0 + 18030) / 1000, rel=1e-12)


def test_memory_aware_prices_each_memory_by_its_size() -> None:
    # 2048 neurons → 256 outputs → 2 classes, T-GIM full, T = 4.
    wide = changed(SECOND, name="wide", kind="linear", macs=2**19, weights=2**19, inputs=2048, outputs=256)
    head = changed(HEAD, macs=512, weights=512, inputs=256, outputs=2)
    layers = (
        Layer(
            name="x",
            neurons=2048,
            threshold=1,
            tgim="full",
            leak=False,
            edges=(Edge(target="wide", kind="linear", fan_out=256),),
        ),
    )
    idle, one = (
        estimate(manifest(layers, (wide, head)), 4, np.array([s]), np.array([256 * s]), "memory-aware").snn_nj
        for s in (0.0, 1.0)
    )
    assert idle is not None
    assert one is not None
    # Idle: membranes of 8 KiB, 2 × 4 accesses at 10 pJ; currents of all steps 4 × 8 KiB = 32 KiB, 16 reads at 20 pJ;
    # 16 T-GIM multiplications at 4.6 pJ.
    assert idle == pytest.approx(2048 * (8 * 10 + 16 * 20 + 16 * 4.6) / 1000, rel=1e-12)
    # A spike: 256 × (accumulate 0.9; a weight from 2 MiB, 100 + 80 × 1024/992 pJ; a current read and written in 4 KiB,
    # 20 pJ), and the queue's write and read, 20 pJ.
    assert one - idle == pytest.approx((256 * (0.9 + 100 + 80 * 1024 / 992 + 20) + 20) / 1000, rel=1e-9)


@pytest.mark.parametrize(
    ("tgim", "kind", "runs", "current_pj"),
    # 2048 currents are 8 KiB, 10 pJ an access; those of all 4 steps 32 KiB, 20 pJ. Only the full T-GIM keeps them.
    [("full", "full", "each_step", 20), ("factored", "gains", "once", 10), ("none", "none", "each_step", 10)],
)
def test_only_the_full_tgim_keeps_the_currents_of_all_steps(
    tgim: Literal["full", "factored", "none"], kind: str, runs: str, current_pj: float
) -> None:
    second = changed(SECOND, outputs=2048, runs=runs)
    opened = account(
        manifest((A, changed(B, neurons=2048, tgim=kind)), (STEM, second, HEAD), tgim=tgim), 4, "memory-aware"
    )
    # A weight (10 pJ) and a current, read and written; an identity has the current alone.
    synop_pj = 10 + 2 * current_pj
    assert opened.synop_pj[0] == pytest.approx(0.9 + synop_pj)
    assert opened.spike_pj[0] == pytest.approx(2 * current_pj - synop_pj + 3 * 10)


def test_synops_are_divided_between_a_layers_connections_by_fan_out() -> None:
    # The same 90 synops go to a 3×3 convolution (fan-out 72, weights of 32 KiB) and a 1×1 shortcut (fan-out 8, 8 KiB).
    big = changed(SECOND, weights=8192)
    shortcut = changed(SECOND, name="shortcut", weights=2048)
    edges = (Edge(target="second", kind="conv", fan_out=72), Edge(target="shortcut", kind="conv", fan_out=8))
    opened = account(manifest((changed(A, edges=edges), B), (STEM, big, shortcut, HEAD)), 2, "memory-aware")
    assert opened.synop_pj[0] == pytest.approx(0.9 + 0.9 * 20 + 0.1 * 10 + 20, rel=1e-12)


@pytest.mark.parametrize(("kib", "pj"), [(0.001, 10), (8, 10), (20, 15), (32, 20), (528, 60), (1024, 100), (2016, 180)])
def test_an_access_costs_what_horowitzs_table_says_and_lines_between(kib: float, pj: float) -> None:
    assert access_pj(kib * 1024) == pytest.approx(pj, rel=1e-12)


def test_analog_connections_are_paid_as_often_as_they_run() -> None:
    each_step = changed(SECOND, analog=True, runs="each_step")
    once = changed(SECOND, analog=True, runs="once")
    for timesteps in (1, 4):
        assert account(manifest(connections=(STEM, each_step, HEAD)), timesteps).fixed.macs == 288 + 576 * timesteps
        assert account(manifest(connections=(STEM, once, HEAD)), timesteps).fixed.macs == 288 + 576


def test_gains_cost_t_multiplications_where_the_full_tgim_costs_t_squared() -> None:
    def multiplications(tgim: str, timesteps: int) -> float:
        layers = (changed(A, tgim=tgim), changed(B, tgim=tgim))
        return account(manifest(layers), timesteps).fixed.tgim_multiplications

    for timesteps in (1, 2, 8):
        assert multiplications("full", timesteps) == 64 * timesteps**2
        assert multiplications("gains", timesteps) == 64 * timesteps
        assert multiplications("none", timesteps) == 0


def test_only_layers_that_leak_pay_for_it_and_not_in_the_first_step() -> None:
    still = changed(A, leak=False)
    assert account(manifest((still, B)), 1).fixed.leak_multiplications == 0
    assert account(manifest((still, B)), 5).fixed.leak_multiplications == 32 * 4


def test_the_papers_rule_refuses_to_sum_signed_values() -> None:
    shortcut = changed(SECOND, name="shortcut", analog=True)
    energy = estimate(manifest(connections=(STEM, SECOND, shortcut, HEAD)), 2, SPIKES, SYNOPS, "paper")
    assert energy.snn_nj is None
    assert energy.ratio is None
    assert energy.note == "not comparable: shortcut would sum signed values"
    assert energy.ann_nj == pytest.approx((870 + 576) * 4.6 / 1000)


def test_the_papers_rule_refuses_a_layer_whose_spikes_are_pooled_differently() -> None:
    edges = (*B.edges, Edge(target="second", kind="conv", fan_out=18, pool_window=4))
    energy = estimate(manifest((A, changed(B, edges=edges))), 2, SPIKES, SYNOPS, "paper")
    assert energy.snn_nj is None
    assert energy.note == "not comparable: the spikes of b are pooled differently on their ways"


def test_a_pooled_identity_does_not_make_the_papers_rule_incomparable() -> None:
    edges = (A.edges[0], Edge(target="b", kind="identity", fan_out=1, pool_window=4))
    pooled = estimate(manifest((changed(A, edges=edges), B)), 2, SPIKES, SYNOPS, "paper")
    assert pooled == estimate(TINY, 2, SPIKES, SYNOPS, "paper")


@pytest.mark.parametrize(("timesteps", "levels"), [(1, 1), (1, 2), (2, 2), (4, 2), (8, 2), (3, 5), (1024, 255)])
def test_the_rivals_activations_tell_apart_as_many_values_as_the_spike_train_does(timesteps: int, levels: int) -> None:
    bits = rival(manifest(levels=levels), timesteps).bits
    assert bits == math.ceil(math.log2(timesteps * levels + 1))
    assert 2 ** (bits - 1) < timesteps * levels + 1 <= 2**bits


def test_the_rival_is_the_sum_worked_out_by_hand() -> None:
    # T·L = 4: 3 bits. float32: the stem's 288 × 4.6, the other 582 × (3.7 × 3/24 + 0.9)
    fp32 = rival(TINY, 2)
    assert (fp32.bits, fp32.macs) == (3, 870)
    assert fp32.nj == pytest.approx((288 * 4.6 + 582 * (3.7 * 3 / 24 + 0.9)) / 1000, rel=1e-12)
    # int8: 288 × 0.3, 582 × (0.2 × 3/8 + 0.1)
    int8 = rival(TINY, 2, "horowitz-45nm-int8")
    assert int8.nj == pytest.approx((288 * 0.3 + 582 * (0.2 * 3 / 8 + 0.1)) / 1000, rel=1e-12)
    # The accesses are as many as the dense float pass has.
    aware = rival(TINY, 2, "memory-aware")
    assert aware.nj == pytest.approx(fp32.nj + 18.030, rel=1e-12)


def test_the_rivals_packed_activations_need_less_memory() -> None:
    # 8192 inputs and outputs: 32 KiB in float32, 20 pJ; at 3 bits 3 KiB, 10 pJ. Weights 4 bytes either way.
    wide = changed(SECOND, inputs=8192, outputs=8192)
    wide_manifest = manifest(connections=(STEM, wide, HEAD))
    dense_pj = 870 * 4.6 + 608 * 10 + 11 * 10 + 576 * (10 + 20) + 8192 * 20
    assert account(wide_manifest, 2, "memory-aware").ann_nj == pytest.approx(dense_pj / 1000, rel=1e-12)
    rival_pj = 288 * 4.6 + 582 * (3.7 * 3 / 24 + 0.9) + 608 * 10 + 11 * 10 + 576 * (10 + 10) + 8192 * 10
    assert rival(wide_manifest, 2, "memory-aware").nj == pytest.approx(rival_pj / 1000, rel=1e-12)
    # Real-valued inputs stay words.
    stem = changed(STEM, inputs=8192)
    aware, plain = (
        rival(manifest(connections=(stem, HEAD, SECOND)), 2, p).nj for p in ("memory-aware", DEFAULT_PROFILE)
    )
    assert aware - plain == pytest.approx((18030 + 288 * 10) / 1000, rel=1e-9)


counts = st.integers(0, 10**6)


def fired(a: int, b: int) -> tuple[CountArray, CountArray]:
    """Counts of layers a and b when no spike lies at a border: 18 synapses and the identity; 3 synapses."""
    return np.array([a, b], dtype=np.float64), np.array([19.0 * a, 3.0 * b])


@pytest.mark.parametrize("profile", PROFILES)
@settings(deadline=None)
@given(a=counts, b=counts, more_a=counts, more_b=counts)
def test_energy_is_affine_in_the_counts_and_more_spikes_never_cost_less(
    profile: str, a: int, b: int, more_a: int, more_b: int
) -> None:
    def cost_nj(a: int, b: int) -> float:
        energy = estimate(TINY, 2, *fired(a, b), profile)
        assert energy.snn_nj is not None
        assert energy.ann_nj is not None
        assert energy.ratio == energy.snn_nj / energy.ann_nj
        return energy.snn_nj

    together, nothing = cost_nj(a + more_a, b + more_b), cost_nj(0, 0)
    assert together >= cost_nj(a, b) >= nothing >= 0
    assert together - nothing == pytest.approx(
        (cost_nj(a, b) - nothing) + (cost_nj(more_a, more_b) - nothing), rel=1e-9, abs=1e-6
    )


@pytest.mark.parametrize("profile", PROFILES)
@settings(deadline=None)
@given(rows=st.lists(st.tuples(counts, counts), min_size=1, max_size=40))
def test_an_images_energy_does_not_depend_on_its_batch_mates(profile: str, rows: list[tuple[int, int]]) -> None:
    spikes, synops = (np.array(side) for side in zip(*(fired(*row) for row in rows), strict=True))
    opened = account(TINY, 2, profile)
    alone = [opened.estimate(*fired(*row)) for row in rows]
    assert opened.estimate_batch(spikes, synops) == alone
    assert opened.estimate_batch(np.asfortranarray(spikes), np.asfortranarray(synops)) == alone


@pytest.mark.parametrize("profile", ["horowitz-45nm-fp32", "horowitz-45nm-int8", "memory-aware"])
def test_an_idle_pass_costs_more_with_every_time_step_and_less_when_factored(profile: str) -> None:
    factored = manifest((A, changed(B, tgim="gains")), (STEM, changed(SECOND, runs="once"), HEAD), tgim="factored")
    full = [account(TINY, timesteps, profile).fixed_pj for timesteps in (1, 2, 4, 8)]
    gains = [account(factored, timesteps, profile).fixed_pj for timesteps in (1, 2, 4, 8)]
    assert full == sorted(set(full))
    assert gains == sorted(set(gains))
    assert full[0] == gains[0]
    assert all(g < f for g, f in zip(gains[1:], full[1:], strict=True))


def test_an_account_is_opened_once_and_closed_with_its_manifest() -> None:
    short_lived = manifest()
    first = account(short_lived, 2)
    assert account(short_lived, 2) is first
    assert account(short_lived, 4) is not first
    assert account(manifest(levels=3), 2) is not first
    gone = weakref.ref(first)
    del first, short_lived
    gc.collect()
    assert gone() is None


def test_an_account_cannot_be_altered_by_who_holds_it() -> None:
    with pytest.raises(ValueError, match="read-only"):
        account(TINY, 2).synop_pj[0] = 0


@pytest.mark.parametrize("ask", [account, rival])
def test_an_unknown_profile_is_refused_with_those_there_are(ask: Any) -> None:
    with pytest.raises(ValueError, match="no energy profile 'coal'; there are horowitz-45nm-fp32, "):
        ask(TINY, 2, "coal")


@pytest.mark.parametrize("ask", [account, rival])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_pass_without_time_steps_is_refused(ask: Any, profile: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ask(TINY, 0, profile)


@pytest.mark.parametrize(
    ("spikes", "synops"),
    [(np.zeros(3), np.zeros(3)), (np.zeros(1), np.zeros(1)), (np.zeros(2), np.zeros(1)), (np.zeros((1, 2)),) * 2],
)
def test_counts_of_another_shape_are_refused(spikes: CountArray, synops: CountArray) -> None:
    with pytest.raises(ValueError, match="for a network of 2 layers"):
        estimate(TINY, 2, spikes, synops)


def test_every_profile_says_that_it_is_an_estimate_and_what_it_assumes() -> None:
    assert list(PROFILES) == ["horowitz-45nm-fp32", "horowitz-45nm-int8", "paper", "memory-aware"]
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert profile.description
        assert "estimate" in profile.assumptions[0]
        assert rival(TINY, 2, name).assumptions


def test_energy_needs_no_torch() -> None:
    program = "import sys, models.energy; sys.exit('torch' in sys.modules or 'fastapi' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
