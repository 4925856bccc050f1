"""Resident memory of compiled graphs, in a process of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.tools import OpenGraph, Run

_PAGE = 4096


@dataclass(frozen=True)
class Growth:
    """By how many bytes the process grew while a graph was compiled for a batch and run once."""

    name: str
    batch: int
    file_bytes: int
    grown_bytes: int


def growth(
    graphs: Sequence[tuple[str, bytes]],
    batches: Sequence[int],
    shape: tuple[int, int, int],
    open_graph: OpenGraph,
    threads: int,
) -> list[Growth]:
    """Compile each (name, ONNX file) for each batch, keeping all, and say what each added; Linux only.

    The first one also pays for the runtime itself, so it is compiled once beforehand.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, graphs, batches, shape, open_graph, threads).result()


def _grow(
    graphs: Sequence[tuple[str, bytes]],
    batches: Sequence[int],
    shape: tuple[int, int, int],
    open_graph: OpenGraph,
    threads: int,
) -> list[Growth]:
    kept: list[Run] = []

    def opened(graph: bytes, batch: int) -> None:
        run = open_graph(graph, batch=batch, threads=threads)
        run(np.zeros((batch, *shape), np.float32))
        kept.append(run)

    opened(graphs[0][1], batches[0])
    found = []
    for name, graph in graphs:
        for batch in batches:
            before = _resident()
            opened(graph, batch)
            found.append(Growth(name, batch, len(graph), _resident() - before))
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
