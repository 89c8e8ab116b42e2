"""How much is computed at once: what fits the processor's cache or a share of memory, more on a GPU."""

import torch

CACHED_CELLS = 1_000_000  # numbers of 4 bytes that stay in a processor's cache
CELLS = 4_000_000  # numbers of a block in a processor's memory: 16 MB
GPU_CELLS = 64_000_000  # numbers of a block on a GPU: 256 MB, so that its cores have enough to do


def cells_at_once(device: torch.device | str = "cpu", in_cache: bool = False) -> int:
    """Numbers to hold at once in one step of a larger computation on this device; `in_cache`: they are read many times."""
    if torch.device(device).type == "cuda":
        return GPU_CELLS
    return CACHED_CELLS if in_cache else CELLS


def rows_at_once(n_columns: int, device: torch.device | str = "cpu", in_cache: bool = False) -> int:
    """Rows of so many numbers to hold at once, at least one."""
    return max(1, cells_at_once(device, in_cache) // max(1, n_columns))
