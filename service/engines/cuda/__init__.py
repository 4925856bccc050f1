"""The engine on a GPU: a bundle's network, made again from its weights and run by the kernels of `models.fused`.

`engine`    `CudaEngine`: bundles, buckets, and what goes wrong
`passes`    what it runs batches by; directly, where kernels are interpreted
`captured`  as CUDA graphs, several batches on their way at once; runs on a GPU only

Nothing else of the service imports torch.
"""
