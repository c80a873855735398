"""``snn.CubaLIF``: the current-based leaky integrate-and-fire neuron in Loihi's integers."""

import onnx
import onnx.parser

from .cuba_neuron import (
    CUBA_ATTRIBUTES,
    CUBA_CONSTANTS,
    CUBA_EQUATIONS,
    bias_shifted,
    cuba_state,
    cuba_step,
    flat_states,
    whole_input,
)
from .definition import DOMAIN, OPSET, Form, Operator, Value

__all__ = ["CUBA_LIF"]

_EQUATIONS = "a[t] = x[t], rounded to the nearest whole number (ties to even)\n" + CUBA_EQUATIONS


def _body(form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time whose step works on one flat vector of neurons.

    The neurons of a step are flattened, because onnxruntime before 1.24 wants ranks inside a Scan, and a body that is to serve
    convolutional and dense layers alike has no other rank to promise.
    """
    x_type, rounded = whole_input(form)
    inputs = "x, bias, initial_u, initial_v" if form.states else "x, bias" if form.bias else "x"
    outputs = "s, final_u, final_v" if form.states else "s"
    bias_setup = bias_shifted(form)
    if form.bias:
        bias_setup += """
          bias_flat = Reshape <allowzero = 1> (bias_full, lanes)"""
    setup, finals = flat_states(form, "int32[1] {0}")
    text = f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        CubaLIF <i_decay, v_decay, v_threshold> ({inputs}) => ({outputs})
        {{{CUBA_CONSTANTS}

          {setup}{bias_setup}

          u_end, v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (int32[?] u_in, int32[?] v_in, {x_type}[?] x_t) => (int32[?] u_out, int32[?] v_out, float[?] s_t)
            {{
              {rounded}
              a = Cast <to = 6> (x_whole)
              {cuba_step("bias_flat" if form.bias else None)}
            }}> (u_start, v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape){finals}
        }}"""
    return onnx.parser.parse_function(text)


CUBA_LIF = Operator(
    name="CubaLIF",
    summary="Current-based leaky integrate-and-fire neuron in the integer arithmetic of Loihi, over all time steps of its input.",
    equations=_EQUATIONS,
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
    body=_body,
)
