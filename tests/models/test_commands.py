"""The commands of models/, called as the command line calls them."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from models import bundle as bundles
from models.bundle import WEIGHTS, ZOO, Manifest
from models.commands.bench import bench
from models.commands.evaluate import evaluate
from models.commands.export import export
from models.commands.import_ import import_
from models.commands.plot import plot
from models.commands.stress import stress
from models.commands.train import train
from models.evaluation import gap
from models.export import measuring
from models.tools import Tools
from models.training import recipes
from service.cli import _decode, _open_engine, _open_graph
from tests.data import fixture

DATA = Path(__file__).parents[1] / "data"


def call(command: Callable[..., None] | typer.Typer, *arguments: object) -> Result:
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer()
        app.command()(command)
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], obj=Tools(_open_engine, _open_graph, _decode)
    )


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> recipes.Recipe:
    """A network of a few hundred weights, trained on the real data for a moment."""
    tiny = replace(
        recipes.recipe("mnist"),
        name="tiny",
        parameters={"widths": [[2], [3], [4]]},
        budgets=(1, 2),
        epochs=2,
        batch=500,
    )
    monkeypatch.setattr(recipes, "RECIPES", {**recipes.RECIPES, "tiny": tiny})
    return tiny


def test_train_export_and_evaluate_lead_to_a_bundle_whose_card_is_true(
    tiny_recipe: recipes.Recipe, tmp_path: Path
) -> None:
    run, path = tmp_path / "run", tmp_path / "tiny" / "1"
    for epochs in (1, 2):  # the second call goes on where the first stopped
        result = call(train, "tiny", "--output", run, "--epochs", epochs)
        assert result.exit_code == 0, result.output
        assert f"epoch {epochs}/2" in result.output
    assert "epoch 1/2" not in result.output
    result = call(export, run, "--output", path)
    assert result.exit_code == 0, result.output
    manifest = bundles.load(path).manifest
    assert manifest.timesteps == tiny_recipe.budgets
    assert all(b.accuracy is not None and b.accuracy.samples == 1000 for b in manifest.budgets)
    assert all(0.05 < b.temperature < 20 for b in manifest.budgets)
    assert call(evaluate, path).exit_code == 0

    # A card that claims three images more than there are is found out.
    first, *others = manifest.budgets
    assert first.accuracy is not None
    boast = first.accuracy.model_copy(update={"served": first.accuracy.served + 0.003})
    budgets = (first.model_copy(update={"accuracy": boast}), *others)
    _rewrite(path, manifest.model_copy(update={"budgets": budgets}))
    result = call(evaluate, path)
    assert result.exit_code == 1
    assert result.output.count("differs") == 1


def _rewrite(path: Path, manifest: Manifest) -> None:
    bundles.write(path, manifest, {name: (path / name).read_bytes() for name in manifest.files})


def test_training_an_unknown_recipe_is_refused_with_what_there_is() -> None:
    result = call(train, "nothing")
    assert result.exit_code == 2
    assert "mnist-full" in result.output


def test_exporting_a_folder_without_a_network_says_so(tmp_path: Path) -> None:
    result = call(export, tmp_path)
    assert result.exit_code == 2
    assert "not a trained network" in result.output


def test_evaluating_a_bundle_whose_weights_were_changed_is_refused(tmp_path: Path) -> None:
    source = ZOO / "mnist" / "1"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"\0" + (tmp_path / WEIGHTS).read_bytes()[1:])
    result = call(evaluate, tmp_path)
    assert result.exit_code == 2
    assert "sha256" in result.output


def test_import_writes_a_repository_folder_that_is_served(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    fixture.main(str(DATA / "official-resnet18-T2-L2.npz"), str(checkpoint))
    arguments = ("--arch", "resnet18", "--levels", 2, "--precision", "float32", "--output", tmp_path / "repository")
    result = call(import_, checkpoint, *arguments)
    assert result.exit_code == 0, result.output
    bundle = bundles.load(tmp_path / "repository" / "resnet18" / "1")
    meta, _, images, expected = fixture.load(str(DATA / "official-resnet18-T2-L2.npz"))
    assert bundle.manifest.timesteps == (meta["T"],)
    assert bundle.manifest.budgets[0].accuracy is None
    engine = _open_engine(bundle, batch_sizes=(len(images),))
    outputs = engine.run(images, meta["T"])
    engine.close()
    spikes = sum(values.sum() for name, values in expected.items() if name.startswith("spikes:"))
    assert outputs.spikes.sum() == pytest.approx(spikes, rel=1e-4)
    close = np.abs(outputs.logits - expected["logits"].mean(0)).max(1) < 1e-3
    assert close.mean() > 0.5


def test_importing_something_else_is_refused_with_the_reason(tmp_path: Path) -> None:
    checkpoint = tmp_path / "notes.txt"
    checkpoint.write_text("not a checkpoint")
    result = call(import_, checkpoint, "--arch", "resnet18", "--levels", 2, "--output", tmp_path)
    assert result.exit_code == 2
    assert "checkpoint" in result.output
    assert not (tmp_path / "resnet18").exists()


def test_plot_draws_what_the_cards_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.commands.plot.RUNS", 2)
    picture = tmp_path / "tradeoff.svg"
    result = call(plot, ZOO / "mnist" / "1", ZOO / "mnist-full" / "1", "--output", picture)
    assert result.exit_code == 0, result.output
    text = picture.read_text()
    assert "mnist-full" in text
    assert text.count("T=8") == 4  # one model has that budget, and each of four panels shows it
    assert text.count("T=4") == 8


@pytest.mark.long
def test_stress_compares_the_budgets_on_easier_and_harder_pictures() -> None:
    result = call(stress, ZOO / "numbers-factored" / "1", "--samples", 100)
    assert result.exit_code == 0, result.output
    smallest = {}
    for name in ("no clutter", "noise 0.4", "contrast 0.3"):
        (row,) = re.findall(rf"│ {name} +│ +([\d.]+) ", result.output)
        smallest[name] = float(row)
    assert smallest["no clutter"] > max(smallest["noise 0.4"], smallest["contrast 0.3"])


def test_a_gap_is_between_answers_to_the_same_pictures() -> None:
    # Three of four differ by +1, -1, +1: a mean of 25 points, and a standard error of their own scatter.
    points = [100.0, -100.0, 100.0, 0.0]
    error = statistics.stdev(points) / 2
    first, second = np.array([False, True, False, True]), np.array([True, False, True, True])
    assert gap(first, second) == f"+25.00 ± {error:.2f}"


def test_stress_refuses_a_model_of_other_pictures() -> None:
    result = call(stress, ZOO / "mnist" / "1")
    assert result.exit_code == 2
    assert "two-digit" in result.output


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Puts back how many threads torch uses."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("torch_threads")
def test_bench_compares_a_bundle_with_its_alternatives_and_writes_them_down(tmp_path: Path) -> None:
    path, markdown = tmp_path / "bench.json", tmp_path / "bench.md"
    result = call(
        bench, "--bundle", ZOO / "mnist" / "1", "--timesteps", "1,2", "--batch", 1, "--rounds", 3, "--threads", 1,
        "--json", path, "--report", markdown,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(path.read_text())
    names = [alternative["name"] for alternative in document["results"]]
    assert len(names) == 9  # the ReLU network once
    for kind in ("engine", "engine, nothing counted", "ONNX Runtime CPU, float32", "PyTorch, eager"):
        assert f"{kind}: factored T-GIM, T = 2, batch 1" in names
    assert "8-bit ReLU network: 1 × batch 1" in names
    second = document["ratios"][1]
    assert (second["timesteps"], second["batch"]) == (2, 1)
    medians = {alternative["name"]: alternative["median_s"] for alternative in document["results"]}
    of = "factored T-GIM, T = 2, batch 1"
    assert second["ratios"]["as eager"]["value"] == pytest.approx(
        medians[f"PyTorch, eager: {of}"] / medians[f"engine: {of}"]
    )
    assert second["ratios"]["time ÷ ReLU passes"]["value"] == pytest.approx(
        medians[f"engine: {of}"] / medians["8-bit ReLU network: 1 × batch 1"]
    )
    assert {grown["batch"] for grown in document["memory"]} == {1}
    assert "| factored T-GIM, T = 2, batch 1 |" in markdown.read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.usefixtures("torch_threads")
def test_bench_takes_any_architecture_with_random_weights(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = call(
        bench, "--architecture", "vgg", "--parameters", '{"widths": [[2], [3]]}', "--tgim", "full,factored",
        "--timesteps", "1,3", "--batch", 2, "--rounds", 3, "--threads", 1, "--json", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(path.read_text())
    names = [alternative["name"] for alternative in document["results"]]
    assert {name for name in names if name.startswith("8-bit")} == {
        "8-bit ReLU network: 1 × batch 2",
        "8-bit ReLU network: 3 × batch 2",
    }
    assert "as eager, full T-GIM" in document["ratios"][-1]["ratios"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--bundle", ZOO / "mnist" / "1", "--timesteps", "3"], "no budget of 3; there are 1, 2, 4, 8"),
        (["--timesteps", "two"], "whole numbers"),
        (["--batch", "0"], "whole numbers"),
        (["--architecture", "transformer"], "unknown architecture"),
        (["--parameters", "{"], "delimiter|property name"),
        (["--parameters", "[1]"], "object"),
        (["--tgim", "half"], "half"),
    ],
)
def test_bench_refuses_what_makes_no_sense(options: list[object], reason: str) -> None:
    result = call(bench, *options)
    assert result.exit_code == 2, result.output
    assert re.search(reason, " ".join(re.sub("[│╭╰─╮╯]", " ", result.output).split()))


def test_a_temperature_makes_overconfident_logits_honest() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 5)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([generator.choice(5, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    assert measuring.fit_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.1)
