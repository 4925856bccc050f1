"""The GPU kernels against what they replace: `lmht bench kernels`.

`cases`         what is measured: the neuron alone, and every distinct layer of a ResNet-18
`alternatives`  each case as work for the GPU: our kernels, cuDNN, eager PyTorch
`gpu`           how such work is timed
`measuring`     the alternatives of a case, compared
`report`        the file as Markdown
"""
