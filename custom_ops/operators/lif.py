"""``snn.LIF``: SpikingJelly's leaky integrate-and-fire neuron, with a fixed or a trained time constant."""

import onnx

from .definition import Attribute, Form, Operator
from .float_neuron import FLOAT_INPUTS, FLOAT_OUTPUTS, LARGEST, RESET_EQUATIONS, THRESHOLD_ATTRIBUTES, float_neuron_body

__all__ = ["LIF"]

_EQUATIONS = """\
h[t] = v[t-1] + leak(x[t] - (v[t-1] - v_reset))        with decay_input
h[t] = v[t-1] - leak(v[t-1] - v_reset) + x[t]          without
leak(y) = y / tau or y * decay, whichever is given
"""


def _body(form: Form) -> onnx.FunctionProto:
    """The absent one of tau and decay becomes 1, and dividing or multiplying by 1 is exact: one body serves both.

    The input enters inside the leak or behind it; the place where it does not enter gets a zero by selection, because a product
    with zero would turn an infinite input into NaN.
    """
    return float_neuron_body(
        "LIF",
        form,
        defaults={"tau": 1.0, "decay": 1.0, "decay_input": 1},
        setup="""
          tau = Constant <value_float: float = @tau> ()
          decay = Constant <value_float: float = @decay> ()
          decay_input_int = Constant <value_int: int = @decay_input> ()
          decays_input = Cast <to = 9> (decay_input_int)""",
        charge="""
              gap = Sub (v_in, v_reset)
              x_leaking = Where (decays_input, x_t, zero)
              x_direct = Where (decays_input, zero, x_t)
              drive = Sub (x_leaking, gap)
              drive_divided = Div (drive, tau)
              drive_leaked = Mul (drive_divided, decay)
              v_leaked = Add (v_in, drive_leaked)
              h = Add (v_leaked, x_direct)""",
    )


LIF = Operator(
    name="LIF",
    summary="Leaky integrate-and-fire neuron of SpikingJelly, over all time steps of its input.",
    equations=_EQUATIONS + RESET_EQUATIONS,
    source="`LIFNode` and `ParametricLIFNode` of SpikingJelly 2.0.0 (`_ops/lif/` and `_ops/plif/reference.py`), on the CPU.",
    attributes=(
        *THRESHOLD_ATTRIBUTES,
        Attribute("tau", "float", "membrane time constant in time steps (LIFNode)", (1.0, LARGEST), required=False),
        Attribute("decay", "float", "1 / tau as ParametricLIFNode trains it: sigmoid(w)", (0.0, 1.0), required=False),
        Attribute("decay_input", "int", "1 where the input leaks as well, 0 where it does not", (0, 1), 1, required=False),
    ),
    one_of=("tau", "decay"),
    inputs=FLOAT_INPUTS,
    outputs=FLOAT_OUTPUTS,
    body=_body,
)
