"""GPU kernels in Triton: the LM-HT neuron, and the convolution with the neuron inside.

`neuron`       currents to spikes in one pass: `fire`
`convolution`  spikes to spikes, with the convolution inside: `convolve_and_fire`; and `convolve` without neurons
`contracts`    what the kernels give back and what they refuse
`layout`       how tensors lie in memory
`configs`      how the kernels are cut into blocks
`resources`    what they take of a multiprocessor, by the compiler
`device/`      what runs on the GPU: both kernels, and the neuron's time-steps that they share

They are functions on tensors and need nothing of the rest of the project. Under ``TRITON_INTERPRET=1``, set before they
are imported, they run on a CPU.
"""
