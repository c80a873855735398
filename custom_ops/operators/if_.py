"""``snn.IF``: SpikingJelly's integrate-and-fire neuron."""

import numpy.typing as npt
import onnx

from .definition import Form, Operator, SpikingNeuron
from .float_arithmetic import FloatResult, float_neuron
from .float_neuron import FLOAT_INPUTS, FLOAT_OUTPUTS, RESET_EQUATIONS, THRESHOLD_ATTRIBUTES, float_class, float_neuron_body

__all__ = ["IF", "if_"]


def _body(form: Form) -> onnx.FunctionProto:
    return float_neuron_body("IF", form, defaults={}, setup="", charge="h = Add (v_in, x_t)")


def if_(
    x: npt.ArrayLike, v_threshold: float, v_reset: float | None = None, initial_v: npt.ArrayLike | None = None
) -> FloatResult:
    """SpikingJelly's IF neuron: the arithmetic of the operator ``snn.IF`` in words, each operation in float32.

    Formula: ``IFNode`` of SpikingJelly 2.0.0, ``_ops/if_/reference.py``.

    Args:
        x: input current, ``[T, N, *]``.
        v_threshold: membrane potential from which on the neuron fires.
        v_reset: membrane potential after a spike; None for a soft reset, which subtracts the threshold.
        initial_v: membrane potential before the first step, ``[N, *]``; by default ``v_reset``, or 0 with a soft reset.

    Raises:
        ValueError: ``x`` has fewer than two dimensions.
    """
    return float_neuron(x, lambda v, x_t: v + x_t, v_threshold, v_reset, initial_v)


IF = Operator(
    name="IF",
    summary="Integrate-and-fire neuron of SpikingJelly, over all time steps of its input.",
    equations="h[t] = v[t-1] + x[t]\n" + RESET_EQUATIONS,
    source="`IFNode` of SpikingJelly 2.0.0 (`_ops/if_/reference.py`), on the CPU.",
    attributes=THRESHOLD_ATTRIBUTES,
    inputs=FLOAT_INPUTS,
    outputs=FLOAT_OUTPUTS,
    body=_body,
    reference=if_,
    native=True,
    classes=(float_class("spikingjelly.activation_based.neuron.IFNode"),),
    on_loihi=lambda attributes: SpikingNeuron(attributes["v_threshold"], attributes["v_reset"]),
)
