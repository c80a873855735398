"""The layouts of SpikingJelly and Lava-DL."""

import pytest
import torch

from sj2onnx import NXT_to_TNX, TNX_to_NXT


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 2), (6, 4, 2, 3, 5)])
def test_time_moves_from_first_to_last_and_back(shape):
    x = torch.rand(shape)
    moved = TNX_to_NXT(x)
    assert moved.shape == (*shape[1:], shape[0])
    for t in range(shape[0]):
        assert torch.equal(moved[..., t], x[t])
    assert torch.equal(NXT_to_TNX(moved), x)
