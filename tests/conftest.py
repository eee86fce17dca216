"""One thread per test process: small matrices on shared cores lose more to waiting threads than they gain."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
