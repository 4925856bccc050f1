"""The whole network on a GPU against what else could run it there: `lmht bench --device cuda`.

`cases`         what is measured: networks, T-GIMs, budgets and batches
`alternatives`  each case as work for the GPU: fused kernels, eager PyTorch, torch.compile, a plain ReLU network
`relu`          that network; `compilable` is what torch.compile is given
`work`          what an alternative is to those who measure it, and a device to an alternative
`device`        the GPU: CUDA graphs, its clock, copies from and to it, its energy
`measuring`     the alternatives of a case, compared; latencies; energy; what ran out of memory
`energy`        joules between two steps of a counter
`report`        all that as Markdown
"""
