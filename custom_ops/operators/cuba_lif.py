"""``snn.CubaLIF`` and its recurrent twin: the current-based leaky integrate-and-fire neuron in Loihi's integers."""

from functools import partial

import numpy.typing as npt

from .cuba_arithmetic import CubaLIFResult, heterogeneous_cuba_lif
from .cuba_neuron import CUBA_ATTRIBUTES, CUBA_EQUATIONS, CUBA_SUMS, CubaParameters, cuba_body, cuba_state
from .definition import Operator, Value
from .feedback import with_feedback

__all__ = ["CUBA_LIF", "RECURRENT_CUBA_LIF", "cuba_lif"]

_PARAMETERS = CubaParameters(
    attributes=tuple(attribute.name for attribute in CUBA_ATTRIBUTES),
    setup="""
          i_decay_int = Constant <value_int: int = @i_decay> ()
          i_decay_double = Cast <to = 11> (i_decay_int)
          i_rest = Sub (unity, i_decay_double)
          u_keep = Div (i_rest, unity)
          v_decay_int = Constant <value_int: int = @v_decay> ()
          v_decay_double = Cast <to = 11> (v_decay_int)
          v_rest = Sub (unity, v_decay_double)
          v_keep = Div (v_rest, unity)
          threshold_int = Constant <value_int: int = @v_threshold> ()
          threshold_mantissa = Cast <to = 6> (threshold_int)
          threshold = Mul (threshold_mantissa, align)""",
)


def cuba_lif(
    x: npt.ArrayLike,
    i_decay: int,
    v_decay: int,
    v_threshold: int,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
) -> CubaLIFResult:
    """Loihi's current-based LIF neuron: the arithmetic of the operator ``snn.CubaLIF`` in words.

    Formula: ``PyLifModelBitAcc`` in ``lava/proc/lif/models.py`` of lava-nc 0.10.0.

    Args:
        x: synaptic sums in weight units, ``[T, N, *]``; float (whole numbers within ±2**24; others are rounded, ties to
            even) or int32.
        i_decay: current decay, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: voltage decay, 0 ... 4096, in units of 1/4096 per time step.
        v_threshold: threshold mantissa, 0 ... 131071.
        bias: bias mantissa, broadcast to ``[N, *]``, whole numbers.
        initial_u: current before the first step, int32 ``[N, *]``, in units of 1/64 of a weight unit; 0 by default.
        initial_v: voltage before the first step, likewise.

    Raises:
        ValueError: an attribute is out of its range, or ``x`` has fewer than two dimensions.
    """
    given = {"i_decay": i_decay, "v_decay": v_decay, "v_threshold": v_threshold}
    for attribute in CUBA_ATTRIBUTES:
        low, high = attribute.range
        if not low <= given[attribute.name] <= high:
            raise ValueError(f"{attribute.name} is {given[attribute.name]}, outside {low} ... {high}")
    return heterogeneous_cuba_lif(x, i_decay, v_decay, v_threshold, bias, initial_u, initial_v)


CUBA_LIF = Operator(
    name="CubaLIF",
    summary="Current-based leaky integrate-and-fire neuron in the integer arithmetic of Loihi, over all time steps of its input.",
    equations=CUBA_SUMS + CUBA_EQUATIONS,
    source="`PyLifModelBitAcc` in `lava/proc/lif/models.py` of lava-nc 0.10.0.",
    attributes=CUBA_ATTRIBUTES,
    inputs=(
        Value(
            "x",
            ("tensor(float)", "tensor(int32)"),
            "[T, N, *]",
            "synaptic sum of each time step in weight units; as float32, whole numbers within ±2**24",
        ),
        Value(
            "bias",
            ("tensor(float)", "tensor(int32)"),
            "broadcast to [N, *]",
            "bias mantissa (exponent 6), a whole number in -4096 ... 4095, added at every time step",
            optional=True,
        ),
        cuba_state("initial_u", "[N, *]", "synaptic current before the first step"),
        cuba_state("initial_v", "[N, *]", "membrane potential before the first step"),
    ),
    outputs=(
        Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),
        cuba_state("final_u", "[N, *]", "synaptic current after the last step"),
        cuba_state("final_v", "[N, *]", "membrane potential after the last step (0 where it fired)"),
    ),
    body=partial(cuba_body, "CubaLIF", _PARAMETERS),
    reference=cuba_lif,
    native=True,
)

RECURRENT_CUBA_LIF = with_feedback(CUBA_LIF, _PARAMETERS, native=True)
