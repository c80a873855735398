"""``snn.CubaLIF``: the current-based leaky integrate-and-fire neuron in Loihi's integers."""

import numpy.typing as npt
import onnx
import onnx.parser

from .cuba_arithmetic import CubaLIFResult, heterogeneous_cuba_lif
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

__all__ = ["CUBA_LIF", "cuba_lif"]

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
    reference=cuba_lif,
    native=True,
)
