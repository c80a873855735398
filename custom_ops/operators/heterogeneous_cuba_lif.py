"""``snn.HeterogeneousCubaLIF`` and its recurrent twin: CUBA neurons of which each has decays and a threshold of its own."""

from functools import partial

from .cuba_arithmetic import heterogeneous_cuba_lif
from .cuba_neuron import CUBA_EQUATIONS, CUBA_SUMS, CubaParameters, cuba_body
from .definition import Operator, Value
from .feedback import with_feedback

__all__ = ["HETEROGENEOUS_CUBA_LIF", "RECURRENT_HETEROGENEOUS_CUBA_LIF", "THRESHOLD_LIMIT"]

THRESHOLD_LIMIT = 2**24 - 1
"""The largest threshold mantissa. From 2**17 on a neuron never fires, as its potential is clipped at 2**23 - 1: a readout."""

_PARAMETERS = CubaParameters(
    inputs=("i_decay", "v_decay", "v_threshold"),
    setup="""
          i_decay_double = Cast <to = 11> (i_decay)
          i_rest = Sub (unity, i_decay_double)
          u_keep_each = Div (i_rest, unity)
          u_keep = Expand (u_keep_each, neurons)
          v_decay_double = Cast <to = 11> (v_decay)
          v_rest = Sub (unity, v_decay_double)
          v_keep_each = Div (v_rest, unity)
          v_keep = Expand (v_keep_each, neurons)
          threshold_mantissa = Cast <to = 6> (v_threshold)
          threshold_each = Mul (threshold_mantissa, align)
          threshold = Expand (threshold_each, neurons)""",
)
_INTEGERS = ("tensor(int32)",)

HETEROGENEOUS_CUBA_LIF = Operator(
    name="HeterogeneousCubaLIF",
    summary="CubaLIF neurons whose decays and thresholds differ from neuron to neuron, over all time steps of their input.",
    equations="all parameters are those of each neuron\n" + CUBA_SUMS + CUBA_EQUATIONS,
    source="`PyLifModelBitAcc` in `lava/proc/lif/models.py` of lava-nc 0.10.0, whose parameters may be arrays.",
    attributes=(),
    inputs=(
        Value("x", ("tensor(float)",), "[T, N, *]", "synaptic sum of each time step in weight units, whole within ±2**24"),
        Value("bias", _INTEGERS, "broadcast to [N, *]", "bias mantissa (exponent 6), added at every time step"),
        Value(
            "i_decay",
            _INTEGERS,
            "broadcast to [N, *]",
            "decay of the synaptic current u per time step, 0 ... 4096, in units of 1/4096",
        ),
        Value("v_decay", _INTEGERS, "broadcast to [N, *]", "decay of the membrane potential v per time step, likewise"),
        Value(
            "v_threshold",
            _INTEGERS,
            "broadcast to [N, *]",
            f"threshold mantissa, 0 ... {THRESHOLD_LIMIT}: fires where v > v_threshold * 64; never from 131072 on",
        ),
    ),
    outputs=(Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),),
    body=partial(cuba_body, "HeterogeneousCubaLIF", _PARAMETERS),
    reference=heterogeneous_cuba_lif,
    native=True,
)

RECURRENT_HETEROGENEOUS_CUBA_LIF = with_feedback(HETEROGENEOUS_CUBA_LIF, _PARAMETERS, native=False)
