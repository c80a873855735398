"""``snn.IF``: SpikingJelly's integrate-and-fire neuron."""

import onnx

from .definition import Form, Operator
from .float_neuron import FLOAT_INPUTS, FLOAT_OUTPUTS, RESET_EQUATIONS, THRESHOLD_ATTRIBUTES, float_neuron_body

__all__ = ["IF"]


def _body(form: Form) -> onnx.FunctionProto:
    return float_neuron_body("IF", form, defaults={}, setup="", charge="h = Add (v_in, x_t)")


IF = Operator(
    name="IF",
    summary="Integrate-and-fire neuron of SpikingJelly, over all time steps of its input.",
    equations="h[t] = v[t-1] + x[t]\n" + RESET_EQUATIONS,
    source="`IFNode` of SpikingJelly 2.0.0 (`_ops/if_/reference.py`), on the CPU.",
    attributes=THRESHOLD_ATTRIBUTES,
    inputs=FLOAT_INPUTS,
    outputs=FLOAT_OUTPUTS,
    body=_body,
)
