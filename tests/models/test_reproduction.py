"""The paper's experiments: the plan, its carrying out, and the report's arithmetic."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from models.data import load
from models.reproduction import questions, report
from models.reproduction import result as results
from models.reproduction.plan import BUDGETS, HYBRIDS, STUDIES, Body, Experiment, Study, plan
from models.reproduction.result import Measurement, Result
from models.reproduction.run import carry_out
from models.training import network_file
from service.cli import _open_engine, app

TINY = Study("mnist", Body("tiny", "vgg", {"widths": [[4], [6]]}), (), {"epochs": 1}, {"epochs": 1})
TINY = dataclasses.replace(TINY, hybrids=((TINY.body, 4),))


def named(name: str, study: Study = TINY, **changes: Any) -> Experiment:
    (found,) = [e for e in plan(study, 1, 40) if e.name == f"{name}-seed1"]
    return dataclasses.replace(found, **changes)


def measured(accuracy: float, timesteps: int = 1, spikes: float = 100.0) -> Measurement:
    return Measurement(
        timesteps=timesteps,
        accuracy=accuracy,
        samples=1000,
        spikes=spikes,
        synops=10 * spikes,
        snn_nj=1.0,
        ann_nj=4.0,
        rival_nj=2.0,
        rival_bits=2,
    )


# --- The plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_every_network_of_a_plan_has_a_name_of_its_own_and_comes_after_the_one_it_starts_from(name: str) -> None:
    experiments = plan(STUDIES[name], 3)
    names = [experiment.name for experiment in experiments]
    assert len(set(names)) == len(names)
    for position, experiment in enumerate(experiments):
        assert experiment.start is None or experiment.start.name in names[:position]


@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_is_planned_with_every_seed(name: str) -> None:
    seeds: dict[str, set[int]] = {}
    for experiment in plan(STUDIES[name], 3):
        seeds.setdefault(experiment.name.rsplit("-seed", 1)[0], set()).add(experiment.recipe.seed)
    assert set(map(frozenset, seeds.values())) == {frozenset({1, 2, 3})}


def test_the_cifar_studies_follow_the_papers_recipe() -> None:
    by_name = {experiment.name: experiment.recipe for experiment in plan(STUDIES["cifar100"], 1)}
    direct, tuned = by_name["lm-ht-full-t4-seed1"], by_name["hybrid-l2t2-vgg-16-seed1"]
    assert (direct.optimizer, direct.learning_rate, direct.weight_decay, direct.epochs) == ("sgd", 0.025, 5e-4, 300)
    assert (tuned.learning_rate, tuned.epochs) == (5e-4, 30)
    assert by_name["qcfs-ann-resnet-20-seed1"].levels == 8
    assert by_name["qcfs-ann-vgg-16-seed1"].levels == 4


def test_a_fingerprint_tells_of_the_network_it_starts_from() -> None:
    derived = named("derived-full-kept")
    assert derived.start is not None
    other = dataclasses.replace(derived.start, recipe=dataclasses.replace(derived.start.recipe, epochs=7))
    assert dataclasses.replace(derived, start=other).fingerprint() != derived.fingerprint()


# --- Carrying out ----------------------------------------------------------------------------------------------------


def test_a_hybrid_start_with_as_many_levels_answers_as_its_ann_does(tmp_path: Path) -> None:
    ann = carry_out(named("qcfs-ann"), tmp_path, _open_engine)
    start = carry_out(named("hybrid-start-l2t2"), tmp_path, _open_engine)
    assert start.budgets[0].accuracy == ann.budgets[0].accuracy
    assert start.budgets[0].spikes
    assert ann.budgets[0].spikes is None


def test_what_is_measured_is_what_the_network_says_of_the_test_pictures(tmp_path: Path) -> None:
    experiment = named("lm-ht-full-t2")
    result = carry_out(experiment, tmp_path, _open_engine)
    network = experiment.recipe.build().eval()
    network.load_state_dict(load_file(tmp_path / experiment.name / network_file.FILE))
    test = load("mnist", "test")
    images, labels = torch.from_numpy(test.images[::25]), torch.from_numpy(test.labels[::25])
    spikes: list[float] = []
    for module in network.modules():
        if type(module).__name__ == "Neuron":
            module.register_forward_hook(lambda m, _, out: spikes.append(float((out / m.threshold).sum())))
    with torch.inference_mode():
        right = network(images, 2).argmax(1) == labels
    (found,) = result.budgets
    assert found.samples == len(labels) == 40
    assert found.accuracy == float(right.double().mean())
    assert found.spikes == pytest.approx(sum(spikes) / len(labels), rel=1e-4)


def test_m_ht_learns_no_mixing_and_no_leak(tmp_path: Path) -> None:
    carry_out(named("m-ht-t2"), tmp_path, _open_engine)
    state = load_file(tmp_path / "m-ht-t2-seed1" / network_file.FILE)
    mixing = [value for name, value in state.items() if ".mask." in name or ".alpha." in name]
    assert mixing
    assert not any(value.any() for value in mixing)


def test_what_is_there_is_not_done_again(tmp_path: Path) -> None:
    experiment = named("if-t1")
    first = carry_out(experiment, tmp_path, _open_engine)

    def no_engine(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("measured again")

    assert carry_out(experiment, tmp_path, no_engine) == first


def test_a_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    experiment = named("if-t1")
    carry_out(experiment, tmp_path, _open_engine)
    longer = dataclasses.replace(experiment, recipe=dataclasses.replace(experiment.recipe, epochs=2))
    with pytest.raises(ValueError, match="another plan"):
        carry_out(longer, tmp_path, _open_engine)


# --- The report's arithmetic -----------------------------------------------------------------------------------------


def test_a_difference_is_the_mean_over_seeds_with_its_standard_error() -> None:
    ours = {1: measured(0.90), 2: measured(0.92), 3: measured(0.91)}
    theirs = {1: measured(0.88), 2: measured(0.91), 3: measured(0.88)}
    error = statistics.stdev([2, 1, 3]) / 3**0.5
    assert questions.difference(ours, theirs) == f"+2.00 ± {error:.2f} points"


def test_a_difference_within_two_standard_errors_is_called_none() -> None:
    ours = {1: measured(0.90), 2: measured(0.92)}
    theirs = {1: measured(0.91), 2: measured(0.90)}
    assert "no difference" in questions.difference(ours, theirs)


def test_one_seed_has_no_error() -> None:
    assert questions.difference({1: measured(0.5)}, {1: measured(0.75)}) == "-25.00 points (one seed)"


def test_networks_are_compared_seed_by_seed() -> None:
    ours = {1: measured(0.9, spikes=10), 2: measured(0.9, spikes=40)}
    theirs = {2: measured(0.9, spikes=20), 1: measured(0.9, spikes=20)}
    assert questions.ratio(ours, theirs, "spikes") == "1.25"


def test_a_network_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(LookupError, match="L = 2"):
        questions.find([], "lm-ht", 4, levels=2, tgim="full")


def test_an_accuracy_has_its_deviation_where_there_is_one() -> None:
    assert report.accuracy([measured(0.9), measured(0.92)]) == f"91.00 ± {statistics.stdev([90, 92]):.2f}"
    assert report.accuracy([measured(0.9)]) == "90.00"


# --- The command -----------------------------------------------------------------------------------------------------


def test_a_quick_reproduction_writes_the_whole_report(tmp_path: Path) -> None:
    arguments = ["reproduce", "--data", "mnist", "--quick", "--output", str(tmp_path)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    kept = [result for folder in tmp_path.iterdir() if folder.is_dir() and (result := results.read(folder))]
    assert len(kept) == len(plan(STUDIES["mnist"], 1))
    direct = {(r.method, r.levels, m.timesteps): m for r in kept if r.tgim == "full" for m in r.budgets}
    for timesteps in BUDGETS:
        row = f"| M-HT | 2 | {timesteps} | {100 * direct['m-ht', 2, timesteps].accuracy:.2f} |"
        assert row in text
    for levels, timesteps in HYBRIDS:
        accuracy = 100 * direct["hybrid", levels, timesteps].accuracy
        assert f"| LM-HT from it, tuned (hybrid) | {levels} | {timesteps} | {accuracy:.2f} |" in text
    assert "75.97" in text


def test_an_unknown_study_is_refused() -> None:
    answer = CliRunner().invoke(app, ["reproduce", "--data", "imagenet"])
    assert answer.exit_code == 2
    assert "imagenet" in answer.output


def test_results_survive_the_disk(tmp_path: Path) -> None:
    kept = Result(
        experiment="e",
        fingerprint="f",
        method="lm-ht",
        body="tiny",
        seed=1,
        levels=2,
        tgim="full",
        norms="kept",
        epochs=1,
        seconds=1.5,
        budgets=(measured(0.5),),
    )
    results.write(tmp_path, kept)
    assert results.read(tmp_path) == kept
    assert results.read(tmp_path / "elsewhere") is None
