"""What runs on the GPU, in Triton's own language: Python to its parser, not to Python's type checkers."""
