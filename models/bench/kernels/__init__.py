"""The GPU kernels against what they replace: `lmht bench kernels`.

`cases`         what is measured: the neuron alone, and every distinct layer of a ResNet-18
`alternatives`  each case as work for the GPU: our kernels, cuDNN, eager PyTorch
`gpu`           how such work is timed, and what the GPU is
`study`         cases that were measured, kept in a file, so that a run that was stopped goes on
`report`        the file as Markdown
"""
