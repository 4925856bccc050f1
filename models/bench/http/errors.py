"""What ends a benchmark of HTTP."""


class BenchError(Exception):
    """No figure can be had; the text says why, and what to do about it where something can be done."""
