"""A network at one budget, run with the fused kernels: on a GPU, or interpreted where there is none.

`network`     `FusedNetwork`: images in, logits and exact counts out; nothing in it waits for the device
`captured`    the same as a CUDA graph
`weights`     tensors on the device that all budgets of a network share
`folding`     norms and scales, put beside the weights that they follow rather than into them
`merging`     which nodes are carried out together
`plan`        a graph's nodes made operations
`layers`      operations that make spikes; `plain` where no kernel does
`currents`    operations that make real values
`passing`     operations that only hand spikes on: pools, sums over time, and the counts behind a pool
`operation`   what an operation is

Needs torch and triton, and nothing of a server. Under ``TRITON_INTERPRET=1``, set before it is imported, it runs on a
CPU. Signals are tensors [steps, B, …], with T steps or one, each step of a map channels-last; spikes are whole numbers.
"""

from models.fused.network import FusedNetwork, FusedOutputs
from models.fused.weights import Precision, Weights

__all__ = ["FusedNetwork", "FusedOutputs", "Precision", "Weights"]
