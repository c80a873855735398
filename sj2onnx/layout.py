"""Move the time axis between SpikingJelly's layout, time first, and Lava-DL's, time last."""

import torch

__all__ = ["NXT_to_TNX", "TNX_to_NXT"]


def TNX_to_NXT(x: torch.Tensor) -> torch.Tensor:
    """``[T, N, *]`` (SpikingJelly) → ``[N, *, T]`` (Lava-DL), as a view."""
    return x.movedim(0, -1)


def NXT_to_TNX(x: torch.Tensor) -> torch.Tensor:
    """``[N, *, T]`` (Lava-DL) → ``[T, N, *]`` (SpikingJelly), as a view."""
    return x.movedim(-1, 0)
