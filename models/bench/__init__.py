"""Benchmarks: alternatives measured side by side in one run, with the machine beside the figures.

`harness` measures and compares, `machine` says on what, `report` writes it down. A bench of one's own makes
`Alternative`s and calls `compare`; see the docstring of `harness`. `http` is what the service costs over HTTP.
"""

from models.bench.harness import Alternative, Comparison, Measurement, Ratio, compare, compare_measured
from models.bench.report import print_table, progress, to_json, to_markdown
from models.machine import Machine, describe_machine

__all__ = [
    "Alternative",
    "Comparison",
    "Machine",
    "Measurement",
    "Ratio",
    "compare",
    "compare_measured",
    "describe_machine",
    "print_table",
    "progress",
    "to_json",
    "to_markdown",
]
