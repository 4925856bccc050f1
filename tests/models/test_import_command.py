"""`lmht import` and `lmht reparameterise` as they are called: smaller budgets, measured, and bundles that serve."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from models import bundle as bundles
from models.bundle import Bundle, FloatArray, Outputs
from models.commands.evaluate import evaluate
from models.commands.import_ import import_
from models.commands.reparameterise import reparameterise
from models.conversion import classes_of, derive
from models.energy.operations import fixed_operations
from models.evaluation import network_of
from models.importing import LAYOUTS, Architecture, import_checkpoint, recognise
from models.importing.layout import Layout, Sides
from models.importing.smaller import smaller
from service.cli import _open_engine
from tests.models import authors, reference
from tests.models.authors import Network, Plain, State
from tests.models.test_commands import call

SIZE, CLASSES = 8, 10
TINY = Network("hybrid tiny", CLASSES, timesteps=4, levels=2)
NAME: Architecture = "vgg19"  # what the tiny network goes by


def tiny_layout(state: State) -> Layout:
    """Two convolutions and the head, laid out as in hybrid training."""
    modules = {"body.classifier.head.linear": "classifier.7.0"}
    for unit in (1, 2):
        parts = {"conv": f"layer{unit}.0.0", "norm": f"layer{unit}.1.0", "neuron": f"layer{unit}.2"}
        modules |= {f"body.stage{unit}.unit1.{ours}": theirs for ours, theirs in parts.items()}
    return Layout(
        "vgg",
        "layer1.0.0.weight",
        "classifier.7.0.weight",
        modules,
        Sides(SIZE),
        hybrid=True,
        scaled=True,
        parameters={"widths": [[6], [8]], "bias": True},
    )


def tiny_state(network: Network) -> State:
    draw = authors.Draw(network)
    for unit, inputs, outputs in ((1, 3, 6), (2, 6, 8)):
        draw.weight(f"layer{unit}.0.0", outputs, inputs, 3, 3, bias=True)
        draw.norm(f"layer{unit}.1.0", outputs)
        draw.neuron(f"layer{unit}.2")
    draw.weight("classifier.7.0", network.classes, 8, bias=True)
    draw.state["classifier.7.0.weight"] *= 8  # so that pictures are told apart
    return draw.state


def tiny_scores(images: Tensor) -> tuple[Tensor, Tensor]:
    """By the equations: class scores [B, classes], and unit spikes over all steps [B, layers]."""
    plain = Plain(TINY, tiny_state(TINY))
    current = TINY.levels * plain.norm("layer1.1.0", plain.conv("layer1.0.0", images.double()))
    steps = plain.fire("layer1.2", [current] * TINY.timesteps)
    steps = [functional.avg_pool2d(x, 2) for x in steps]
    steps = plain.fire("layer2.2", plain.mapped("layer2.0.0", "layer2.1.0", steps))
    scores = torch.stack(plain.linear("classifier.7.0", [x.mean((2, 3)) for x in steps])).mean(0)
    return scores, torch.stack([counts.sum(0) for counts in plain.spikes.values()], 1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of one of the authors' networks, which take longer to measure."""
    monkeypatch.setattr(recognise, "LAYOUTS", {**LAYOUTS, NAME: tiny_layout})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("checkpoint") / "hybrid.pth", tiny_state(TINY))


def write(path: Path, state: State) -> Path:
    """A file as the authors' training writes it."""
    torch.save({"model": state, "optimizer": {}, "scheduler": {}, "epoch": 3, "max_acc1": 0.5}, path)
    return path


def photographs(count: int, size: int = SIZE) -> list[Image.Image]:
    random = np.random.default_rng(5)
    return [Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)) for _ in range(count)]


def plain_folder(root: Path, count: int = 12) -> Path:
    root.mkdir()
    for index, picture in enumerate(photographs(count)):
        picture.save(root / f"{index:02}.png")
    return root


def labelled_folder(root: Path, count: int = 12, names: str = "class {}") -> Path:
    """A folder for each class; what the pictures show is of no account."""
    for index in range(CLASSES):
        (root / names.format(index)).mkdir(parents=True)
    for index, picture in enumerate(photographs(count)):
        picture.save(root / names.format(index % CLASSES) / f"{index:02}.png")
    return root


def images_of(root: Path) -> FloatArray:
    """Plain pictures as the network's input."""
    files = sorted(root.rglob("*.png"))
    return np.stack([np.asarray(Image.open(f), np.float32).transpose(2, 0, 1) / np.float32(255) for f in files])


def run(bundle: Bundle, images: FloatArray, timesteps: int) -> Outputs:
    engine = _open_engine(bundle, batch_sizes=(4,))
    try:
        return engine.run(images, timesteps)
    finally:
        engine.close()


def imported(checkpoint: Path, output: Path, *options: object, name: str = NAME) -> tuple[Bundle, str]:
    result = call(import_, checkpoint, "--levels", 2, "--output", output, *options)
    assert result.exit_code == 0, result.output
    return bundles.load(output / name / "1"), " ".join(result.output.split())


# --- Import ----------------------------------------------------------------------------------------------------------


def test_one_command_makes_a_bundle_that_serves_what_the_checkpoint_computes(checkpoint: Path, tmp_path: Path) -> None:
    bundle, said = imported(checkpoint, tmp_path)
    assert "input scale are not in the file: 0.5 θ and 2 are taken" in said
    manifest = bundle.manifest
    assert (manifest.timesteps, manifest.levels, manifest.architecture.name) == ((4,), 2, "vgg")
    assert (manifest.budgets[0].accuracy, manifest.budgets[0].agreement) == (None, None)
    images = torch.rand(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    scores, spikes = tiny_scores(images)
    served = run(bundle, images.numpy(), 4)
    sure = reference.run(network_of(bundle), 4, images).sure
    np.testing.assert_allclose(served.logits[sure], scores.numpy()[sure], rtol=1e-4, atol=1e-4)
    assert served.spikes[sure].tolist() == spikes.numpy()[sure].tolist()


def test_accuracy_on_a_folder_of_classes_is_that_of_the_served_bundle(checkpoint: Path, tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "pictures")
    bundle, said = imported(checkpoint, tmp_path / "out", "--timesteps", "1,2,4", "--calibrate", folder)
    manifest = bundle.manifest
    assert manifest.timesteps == (1, 2, 4)
    assert manifest.classes == tuple(f"class {index}" for index in range(CLASSES))
    assert manifest.description.startswith("vgg19, imported from hybrid.pth; T = 1, 2 by averaging from T = 4")
    labels = [int(file.parent.name.split()[1]) for file in sorted(folder.rglob("*.png"))]
    for budget in manifest.budgets:
        outputs = run(bundle, images_of(folder), budget.timesteps)
        right = outputs.logits.argmax(1) == labels
        assert budget.accuracy is not None
        assert (budget.accuracy.dataset, budget.accuracy.split) == ("pictures", "calibration")
        assert (budget.accuracy.samples, budget.accuracy.served) == (12, right.mean())
        assert budget.mean_spikes == pytest.approx(outputs.spikes.mean(0))
        assert 0.05 <= budget.temperature <= 20
    for timesteps in (1, 2):
        assert f"T = {timesteps}: norms " in said
    assert "T = 4: norms" not in said
    assert call(evaluate, bundle.path, "--root", folder).exit_code == 0
    refused = call(evaluate, bundle.path)
    assert refused.exit_code == 2
    assert "has to be given" in refused.output


def test_agreement_on_plain_pictures_is_with_the_checkpoint_itself(checkpoint: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "plain")
    bundle, _ = imported(checkpoint, tmp_path / "out", "--timesteps", "1,4", "--calibrate", folder)
    images = images_of(folder)
    original = tiny_scores(torch.from_numpy(images))[0].argmax(1).numpy()
    assert len(set(original.tolist())) > 1
    for budget in bundle.manifest.budgets:
        agreement = budget.agreement
        assert budget.accuracy is None
        assert agreement is not None
        assert (agreement.dataset, agreement.samples, agreement.timesteps) == ("plain", 12, 4)
        assert agreement.served == (run(bundle, images, budget.timesteps).logits.argmax(1) == original).mean()
    assert bundle.manifest.budgets[-1].agreement.float32 == 1  # type: ignore[union-attr]  # seen above


def test_the_factored_t_gim_in_eight_bits(checkpoint: Path, tmp_path: Path) -> None:
    options = ("--timesteps", "2,4", "--tgim", "factored", "--precision", "int8")
    folder = plain_folder(tmp_path / "plain")
    bundle, said = imported(
        checkpoint, tmp_path / "out", *options, "--calibrate", folder, "--name", "small", name="small"
    )
    manifest = bundle.manifest
    assert (manifest.tgim, manifest.timesteps) == ("factored", (2, 4))
    assert {budget.precision for budget in manifest.budgets} == {"int8"}
    assert "its T-GIM factored" in manifest.description
    assert manifest.made_by == (
        "lmht import hybrid.pth --arch vgg19 --levels 2 --timesteps 2,4 --calibrate plain --tgim factored "
        "--precision int8"
    )
    assert said.count("norms ") >= 2  # at both budgets: neither has the checkpoint's own layers
    assert run(bundle, images_of(folder), 4).spikes.min() > 0
    assert not any(connection.runs == "each_step" for connection in manifest.connections)


def test_classes_that_are_numbers_may_be_some_of_them(checkpoint: Path, tmp_path: Path) -> None:
    root = tmp_path / "some"
    for index, picture in zip((7, 3, 3), photographs(3), strict=True):
        (root / str(index)).mkdir(parents=True, exist_ok=True)
        picture.save(root / str(index) / f"{picture.getpixel((0, 0))}.png")
    bundle, _ = imported(checkpoint, tmp_path / "out", "--calibrate", root)
    assert bundle.manifest.classes == tuple(map(str, range(CLASSES)))
    (root / "3").rename(root / "cat")
    result = call(import_, checkpoint, "--levels", 2, "--output", tmp_path, "--calibrate", root)
    assert result.exit_code == 2
    assert "which are they" in flat(result.output)


def flat(output: str) -> str:
    return " ".join(re.sub("[│╭╰─╮╯]", " ", output).split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--levels", 2, "--timesteps", "1,8"], r"budgets from 1 to 4 can be derived, not \[1, 8\]"),
        (["--levels", 2, "--timesteps", "1;2"], "whole numbers from 1"),
        (["--levels", 2, "--timesteps", "0,2"], "whole numbers from 1"),
        (["--levels", 2, "--calibrate", "absent"], "no such folder"),
        (["--levels", 2, "--arch", "resnet18"], "not a checkpoint of resnet18"),
        ([], "must be given, with --levels"),
        (["--levels", 2, "--tgim", "none"], "full.*factored"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, options: list[object], reason: str
) -> None:
    result = call(import_, checkpoint, "--output", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert re.search(reason, flat(result.output))
    assert not (tmp_path / "out").exists()


def test_plain_neurons_get_smaller_budgets_but_no_factored_t_gim(tmp_path: Path) -> None:
    file = write(tmp_path / "plain.pth", tiny_state(Network("hybrid tiny", CLASSES, levels=1)))
    common = ("--output", tmp_path / "out", "--timesteps", "1,2,4")
    result = call(import_, file, *common)
    assert result.exit_code == 0, result.output
    manifest = bundles.load(tmp_path / "out" / NAME / "1").manifest
    assert (manifest.levels, manifest.tgim, manifest.timesteps) == (1, "none", (1, 2, 4))
    refused = call(import_, file, *common, "--tgim", "factored")
    assert "no T-GIM that could be factored" in flat(refused.output)


def test_a_size_that_the_network_cannot_read_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "vgg.pth", authors.checkpoint(Network("vgg11", 200)))
    result = call(import_, file, "--levels", 2, "--output", tmp_path / "out", "--size", 64)
    assert result.exit_code == 2
    assert "leave maps of 2×2 before its classifier, which reads 1×1: those of 32×32" in flat(result.output)
    assert not (tmp_path / "out").exists()


def test_norms_are_chosen_by_labels_where_there_are_some_and_else_by_the_checkpoint_s_own_answers() -> None:
    found = import_checkpoint(tiny_state(TINY), levels=2)
    images = np.random.default_rng(2).random((40, 3, SIZE, SIZE), np.float32)
    kept = classes_of(derive(found.network, [1]), 1, torch.from_numpy(images)).numpy()
    original = tiny_scores(torch.from_numpy(images))[0].argmax(1).numpy()
    assert (kept == original).mean() > 0
    labels = np.where(np.arange(40) < 9, kept, (kept + 1) % CLASSES)
    for given, wanted in ((labels, labels), (None, original)):
        made = smaller(found, [1, 4], "full", images, given)
        assert list(made.norms) == [1]
        assert made.norms[1].kept == (kept == wanted).mean()
        assert made.answers is not None
        assert made.answers.tolist() == original.tolist()


# --- Files that are no checkpoints -----------------------------------------------------------------------------------


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_bomb_a_torn_file_a_sparse_file_and_a_text_say_why_and_run_nothing(tmp_path: Path) -> None:
    target, exploded = tmp_path / "file.pth", tmp_path / "exploded"
    state = tiny_state(TINY)
    torch.save({"model": state}, target)
    whole = target.read_bytes()

    def reason() -> str:
        result = call(import_, target, "--levels", 2, "--output", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert not exploded.exists()
        assert not (tmp_path / "out").exists()
        return flat(result.output)

    torch.save({"model": state, "optimizer": Bomb(exploded)}, target)
    assert "would call or make posix.mkdir. Nothing was run" in reason()
    target.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in reason()
    target.write_text("conv1.weight 0.5\n" * 1000)
    assert "not a checkpoint" in reason()
    target.write_bytes(b"")
    os.truncate(target, 5 * 2**30)
    assert "not a checkpoint" in reason()


# --- Reparameterisation ----------------------------------------------------------------------------------------------


def test_a_reparameterised_bundle_serves_l_times_the_steps(checkpoint: Path, tmp_path: Path) -> None:
    original, _ = imported(checkpoint, tmp_path, "--timesteps", "1,4")
    result = call(reparameterise, original.path, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    single = bundles.load(tmp_path / "vgg19-single" / "1")
    manifest = single.manifest
    assert (manifest.levels, manifest.timesteps, manifest.tgim) == (1, (2, 8), "full")
    assert {layer.leak_every for layer in manifest.layers} == {2}
    neurons = manifest.neurons
    assert fixed_operations(manifest, 8).leak_multiplications == 3 * neurons
    assert fixed_operations(original.manifest, 4).leak_multiplications == 3 * neurons
    images = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected = reference.run(network_of(single), 8, images)
    served = run(single, images.numpy(), 8)
    sure = expected.sure
    np.testing.assert_allclose(served.logits[sure], expected.logits[sure], rtol=1e-3, atol=1e-3)
    totals = torch.stack([total.flatten(1).sum(1) for total in expected.totals().values()], 1).numpy()
    assert served.spikes[sure].tolist() == totals[sure].tolist()
    again = call(reparameterise, single.path, "--output", tmp_path)
    assert again.exit_code == 2
    assert "single threshold already" in flat(again.output)


def test_a_max_pool_on_spikes_is_not_reparameterised(tmp_path: Path) -> None:
    file = write(tmp_path / "large.pth", authors.checkpoint(Network("resnet18", timesteps=1, large=True)))
    bundle, _ = imported(file, tmp_path, "--size", 32, name="resnet18")
    result = call(reparameterise, bundle.path, "--output", tmp_path)
    assert result.exit_code == 2
    assert "max pool on spikes" in flat(result.output)
    assert not (tmp_path / "resnet18-single").exists()


def test_ms_resnets_count_what_reads_membranes_as_dense_operations(tmp_path: Path) -> None:
    """Shortcuts in each step (once when factored), the head once after the mean, the stem once."""
    file = write(tmp_path / "ms.pth", authors.checkpoint(Network("ms_resnet18")))
    side = 16
    shortcuts = [
        width * before * (side >> stage) ** 2
        for stage, (before, width) in enumerate(itertools.pairwise(authors.STAGES), 1)
    ]
    stem, head = 27 * 64 * side**2, 512 * CLASSES
    for tgim, runs in (("full", 2), ("factored", 1)):
        bundle, _ = imported(file, tmp_path / tgim, "--tgim", tgim, "--size", side, name="ms_resnet18")
        manifest = bundle.manifest
        analog = {c.name for c in manifest.connections if c.analog}
        assert analog == {"stem.conv", *(f"stage{s}.block1.shortcut.conv" for s in (2, 3, 4)), "classifier.head"}
        assert fixed_operations(manifest, 2).macs == stem + runs * sum(shortcuts) + head
