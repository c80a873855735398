"""What the float neurons IF and LIF share: threshold, reset, state, and the frame of their function body."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx.parser

from .definition import DOMAIN, OPSET, Attribute, Form, TrainedClass, Value

__all__ = [
    "FLOAT_INPUTS",
    "FLOAT_OUTPUTS",
    "LARGEST",
    "RESET_EQUATIONS",
    "THRESHOLD_ATTRIBUTES",
    "float_class",
    "float_neuron_body",
    "number",
]

LARGEST = 3.4028234663852886e38
"""The largest finite float32."""

RESET_EQUATIONS = """\
s[t] = h[t] >= v_threshold
v[t] = s[t] * v_reset + (1 - s[t]) * h[t]      with v_reset (hard reset)
v[t] = h[t] - s[t] * v_threshold               without v_reset (soft reset; v_reset is 0 above)

Every operation rounds to float32, in the order written."""

THRESHOLD_ATTRIBUTES = (
    Attribute("v_threshold", "float", "membrane potential from which on the neuron fires", (-LARGEST, LARGEST)),
    Attribute(
        "v_reset",
        "float",
        "membrane potential after a spike; left out for a soft reset, which subtracts v_threshold",
        (-LARGEST, LARGEST),
        required=False,
    ),
)

FLOAT_INPUTS = (
    Value("x", ("tensor(float)",), "[T, N, *]", "input current of each time step"),
    Value(
        "initial_v",
        ("tensor(float)",),
        "[N, *]",
        "membrane potential before the first step; v_reset, or 0 with a soft reset, where left out",
        optional=True,
    ),
)

FLOAT_OUTPUTS = (
    Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),
    Value("final_v", ("tensor(float)",), "[N, *]", "membrane potential after the last step, after its reset", optional=True),
)


def float_neuron_body(name: str, form: Form, *, defaults: dict[str, float | int], setup: str, charge: str) -> onnx.FunctionProto:
    """The function body of a float neuron: a Scan over time whose step works on one flat vector of neurons.

    A function cannot ask whether an attribute was given, but it can give one that was not a default. An absent v_reset becomes
    NaN; the two ways to reset are then one formula, ``s * drop + (1 - s * forgets) * h``, which is exact in both: a hard reset
    has drop = v_reset and forgets = 1, a soft one drop = -v_threshold and forgets = 0.

    Args:
        name: name of the operator.
        form: which optional inputs and outputs the body takes.
        defaults: further attributes of the operator, each with what it stands for when absent.
        setup: lines before the Scan, in ONNX's text format; ``v_reset`` (0 with a soft reset) is there.
        charge: lines in the step that make ``h`` of ``v_in`` and ``x_t``.

    Raises:
        ValueError: ``form`` asks for a bias or for an integer input, which float neurons do not take.
    """
    if form.bias or form.x_type != onnx.TensorProto.FLOAT:
        raise ValueError(f"{DOMAIN}.{name} takes float32 input and no bias")
    inputs, outputs = ("x, initial_v", "s, final_v") if form.states else ("x", "s")
    v_start = "Reshape <allowzero = 1> (initial_v, lanes)" if form.states else "Expand (v_reset, lanes)"
    final = "final_v = Reshape <allowzero = 1> (v_end, neurons)" if form.states else ""
    text = f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {name} <v_threshold> ({inputs}) => ({outputs})
        {{
          zero = Constant <value = float {{0.0}}> ()
          one = Constant <value = float {{1.0}}> ()
          threshold = Constant <value_float: float = @v_threshold> ()
          v_reset_or_nan = Constant <value_float: float = @v_reset> ()
          soft = IsNaN (v_reset_or_nan)
          v_reset = Where (soft, zero, v_reset_or_nan)
          minus_threshold = Neg (threshold)
          drop = Where (soft, minus_threshold, v_reset)
          forgets = Where (soft, zero, one)
          {setup}
          whole_shape = Shape (x)
          steps = Shape <start = 0, end = 1> (x)
          neurons = Shape <start = 1> (x)
          lanes = ReduceProd <keepdims = 1> (neurons)
          flat_shape = Concat <axis = 0> (steps, lanes)
          x_flat = Reshape <allowzero = 1> (x, flat_shape)
          v_start = {v_start}
          v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (float[?] v_in, float[?] x_t) => (float[?] v_out, float[?] s_t)
            {{
              {charge}
              fires = GreaterOrEqual (h, threshold)
              s_t = Cast <to = 1> (fires)
              dropped = Mul (s_t, drop)
              forgotten = Mul (s_t, forgets)
              kept = Sub (one, forgotten)
              h_kept = Mul (kept, h)
              v_out = Add (dropped, h_kept)
            }}> (v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape)
          {final}
        }}"""
    function = onnx.parser.parse_function(text)
    for attribute, default in {"v_reset": math.nan, **defaults}.items():
        function.attribute_proto.append(onnx.helper.make_attribute(attribute, default))
    return function


def number(value: Any) -> float:
    """A number that may be a trained tensor of one element."""
    return float(value.detach() if hasattr(value, "detach") else value)


def float_class(name: str, further: Callable[[Any], Mapping[str, int | float]] = lambda node: {}) -> TrainedClass:
    """A class of float neurons whose state is ``v``, with ``v_threshold`` and ``v_reset`` as SpikingJelly's neurons have them.

    Args:
        name: from where the class is imported.
        further: the attributes besides threshold and reset, from an instance.
    """

    def attributes(node: Any) -> Mapping[str, int | float]:
        reset = {} if node.v_reset is None else {"v_reset": number(node.v_reset)}
        # An infinite threshold is never reached, and no finite potential is above the largest finite one.
        return {"v_threshold": min(number(node.v_threshold), LARGEST), **reset, **further(node)}

    def initial(node: Any) -> tuple[float, ...]:
        return (0.0 if node.v_reset is None else number(node.v_reset),)

    return TrainedClass(name, attributes, ("v",), initial)
