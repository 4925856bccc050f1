"""From a network to a bundle.

`trace` turns a PyTorch network into a `graph` of plain arrays, `counting` says where its spikes go,
`lowering` writes it as ONNX with `quantisation` of the weights, and `exporter` puts the bundle together.
"""
