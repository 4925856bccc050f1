"""The engine on a CPU.

`engine`   budgets, buckets and passes
`runtimes` what the two runtimes below have in common, and which is taken
`ov`       OpenVINO, by its own package: the quick one, for x86-64
`ort`      ONNX Runtime's CPU provider: runs anywhere, and says what is right
`store`    compiled graphs on disk, so that the next start need not compile them
"""
