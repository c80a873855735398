"""From the graph that torch traced to the graph that its author recognises: one pass a file, run in this order."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common

from .cast_like import CastLikePass
from .integer_weights import IntegerWeightsPass
from .module_names import ModuleNamesPass
from .pool_sizes import PoolSizesPass
from .reshape_chains import ReshapeChainsPass
from .split_sequences import SplitSequencesPass
from .states import StatesPass
from .time_folding import TimeFoldingPass
from .transposed_weights import TransposedWeightsPass
from .zero_bias import ZeroBiasPass

__all__ = ["clean"]


def clean(model: ir.Model, states: StatesPass, integer_weights: Mapping[str, npt.NDArray[np.float32]], owned: set[str]) -> None:
    """Tidy ``model`` in place.

    Args:
        model: the network as torch traced it.
        states: what the operators of the network are like.
        integer_weights: Loihi's even 8-bit weights, by the module path of their block.
        owned: names of all initialisers that are the network's own parameters and buffers.
    """
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        states,
        SplitSequencesPass(),
        PoolSizesPass(),
        TimeFoldingPass(),
        ReshapeChainsPass(),
        ZeroBiasPass(),
        TransposedWeightsPass(),
        IntegerWeightsPass(integer_weights),
        CastLikePass(),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        # Names come last: they are read from where torch says each node came from, which is then dropped.
        ModuleNamesPass(owned),
        common.ClearMetadataAndDocStringPass(),
    )(model)
