"""One thread for PyTorch: the tensors of tests are small, and threads would wait for each other more than they help."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
