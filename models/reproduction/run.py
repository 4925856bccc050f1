"""Carries experiments out, several at a time, each in a process and a folder of its own.

A folder holds the training's checkpoint, then the network and the result: what is there is not done again, and a run
that was interrupted goes on from its last whole epoch.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.conversion import as_ann, derive, freeze_mixing, to_spiking
from models.data import load
from models.networks import Network
from models.reproduction import result as results
from models.reproduction.measure import measure_ann, measure_spiking
from models.reproduction.plan import Experiment, Method
from models.reproduction.result import Result
from models.tools import OpenEngine
from models.training import network_file
from models.training.loop import reestimate_norms, train
from models.training.sources import source

_ANNS: tuple[Method, ...] = ("qcfs-ann", "quantised-ann")


def carry_out_all(
    experiments: Sequence[Experiment], folder: Path, open_engine: OpenEngine, *, jobs: int, root: Path | None = None
) -> Iterator[tuple[Experiment, Result]]:
    """Carry experiments out in ``jobs`` processes, the longest first; yields each as it is finished.

    ``open_engine`` must be a function that another process can import, ``root`` is the data's folder where it needs
    one. Raises what an experiment raised.
    """
    waiting = sorted(experiments, key=lambda experiment: -experiment.work)
    finished: set[str] = set()
    running: dict[Future[Result], Experiment] = {}
    # Not forked: torch's threads do not survive that.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker) as pool:
        try:
            while waiting or running:
                ready = [e for e in waiting if e.start is None or e.start.name in finished]
                for experiment in ready[: jobs - len(running)]:
                    waiting.remove(experiment)
                    running[pool.submit(carry_out, experiment, folder, open_engine, root)] = experiment
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    experiment = running.pop(future)
                    finished.add(experiment.name)
                    yield experiment, future.result()
        except BaseException:  # an interrupt too: what runs is lost up to its last checkpoint, and nobody waits for it
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def carry_out(experiment: Experiment, folder: Path, open_engine: OpenEngine, root: Path | None = None) -> Result:
    """Make, train and measure one network in ``folder``/its name, or return the result that is there already.

    Raises ValueError when what is there is another experiment's, or the data is not found.
    """
    own = folder / experiment.name
    kept = results.read(own)
    if kept is not None:
        if kept.fingerprint != experiment.fingerprint():
            raise ValueError(f"{own} is of another plan than {experiment.name!r} is now; give another folder")
        return kept
    test = load(experiment.recipe.dataset, "test", root).spread(experiment.limit)
    start = time.monotonic()
    network = _trained(experiment, folder, root)
    seconds = time.monotonic() - start
    network_file.save(own / network_file.FILE, experiment.name, network)
    if experiment.method in _ANNS:
        budgets = measure_ann(network, experiment, test)
    else:
        budgets = measure_spiking(network, experiment, test, open_engine)
    recipe = experiment.recipe
    result = Result(
        experiment=experiment.name,
        fingerprint=experiment.fingerprint(),
        method=experiment.method,
        body=experiment.body.label,
        seed=recipe.seed,
        levels=recipe.levels,
        tgim=recipe.tgim,
        norms=experiment.norms,
        epochs=recipe.epochs,
        seconds=seconds,
        budgets=budgets,
    )
    results.write(own, result)
    return result


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)


def _untrained(experiment: Experiment) -> Network:
    """The network with random weights."""
    recipe = experiment.recipe
    torch.manual_seed(recipe.seed)
    network = recipe.build()
    match experiment.method:
        case "qcfs-ann":
            return as_ann(network, recipe.levels, learned=True, offset=0.5)
        case "quantised-ann":
            return as_ann(network, recipe.levels, learned=False, offset=0.0)
        case "m-ht":
            freeze_mixing(network)
    return network


def _at_start(experiment: Experiment, folder: Path, root: Path | None) -> Network:
    """The network that its own training begins with."""
    network = _untrained(experiment)
    if experiment.start is None:
        return network
    parent = _untrained(experiment.start)
    parent.load_state_dict(load_file(folder / experiment.start.name / network_file.FILE))
    if experiment.method != "derived":
        return to_spiking(parent, network)
    network = derive(parent, experiment.recipe.budgets)
    if experiment.norms == "re-estimated":
        reestimate_norms(network, source(experiment.recipe.dataset, experiment.limit, root).plain())
    return network


def _trained(experiment: Experiment, folder: Path, root: Path | None) -> Network:
    network = _at_start(experiment, folder, root)
    recipe = experiment.recipe
    if recipe.epochs == 0:
        return network.eval()
    training = source(recipe.dataset, experiment.limit, root)
    validation = load(recipe.dataset, "validation", root).spread(experiment.limit)
    return train(recipe, training, validation, folder / experiment.name, network=network)
