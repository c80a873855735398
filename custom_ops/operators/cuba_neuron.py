"""What the neurons in Loihi's integers share: attributes, equations, and their function bodies."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx.parser

from .definition import DOMAIN, OPSET, Attribute, Form, Value

__all__ = [
    "CUBA_ATTRIBUTES",
    "CUBA_EQUATIONS",
    "CUBA_REGISTERS",
    "CUBA_SUMS",
    "CubaParameters",
    "bias_shifted",
    "cuba_body",
    "cuba_state",
    "cuba_step",
    "flat_states",
    "whole_input",
]

CUBA_SUMS = "a[t] = x[t], rounded to the nearest whole number (ties to even)\n"
CUBA_EQUATIONS = """\
u[t] = wrap24( rtz(u[t-1] * (4096 - i_decay) / 4096) + (a[t] << 6) )
v[t] = clip24( rtz(v[t-1] * (4096 - v_decay) / 4096) + u[t] + (bias << 6) )
s[t] = v[t] > (v_threshold << 6);    v[t] = 0 where s[t]

rtz     rounds toward zero
wrap24  subtracts 2**24 above 2**23 and adds it at or below -2**23, once
clip24  clips to -(2**23 - 1) ... 2**23 - 1
Sums are 32-bit two's complement."""

CUBA_ATTRIBUTES = (
    Attribute("i_decay", "int", "decay of the synaptic current u per time step, in units of 1/4096", (0, 4096)),
    Attribute("v_decay", "int", "decay of the membrane potential v per time step, in units of 1/4096", (0, 4096)),
    Attribute("v_threshold", "int", "threshold mantissa: the neuron fires where v > v_threshold * 64", (0, 131071)),
)

CUBA_REGISTERS = """
          unity = Constant <value = double {4096.0}> ()
          align = Constant <value = int32 {64}> ()
          wrap_above = Constant <value = int32 {8388608}> ()
          wrap_below = Neg (wrap_above)
          wrap_span = Constant <value = int32 {16777216}> ()
          clip_high = Constant <value = int32 {8388607}> ()
          clip_low = Neg (clip_high)"""
"""Lines before the Scan, in ONNX's text format: the constants that setups and :func:`cuba_step` read."""


@dataclass(frozen=True)
class CubaParameters:
    """Where the body of an operator finds its neurons' decays and thresholds.

    Args:
        setup: lines before the Scan, in ONNX's text format, that make ``u_keep``, ``v_keep`` and ``threshold``, where ``neurons``
            is the shape of a step: of that shape where there are inputs, else single numbers.
        attributes: names of the attributes that they come from.
        inputs: names of the inputs, behind the bias, that they come from.
    """

    setup: str
    attributes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def served(self, form: Form) -> Form:
        """The form that serves calls of ``form``; raises ValueError where it has states and the parameters are inputs."""
        if not self.inputs:
            return form
        if form.x_type != onnx.TensorProto.FLOAT or form.states:
            raise ValueError("neurons with parameters of their own read float32, and keep their states to themselves")
        return Form(bias=True)

    @property
    def head(self) -> str:
        """The attributes in the head of a function."""
        return f"<{', '.join(self.attributes)}>" if self.attributes else ""


def cuba_state(name: str, shape: str, what: str) -> Value:
    """A state of the neurons as an optional input or output of the operator."""
    return Value(name, ("tensor(int32)",), shape, f"{what}, in the unit of the state registers, 2**-6 of a weight unit", True)


def flat_states(form: Form, zero: str) -> tuple[str, str]:
    """Lines before the Scan that make ``x_flat``, ``u_start`` and ``v_start``, and those behind it that make the final states.

    The neurons of a step become one axis of ``lanes``; ``neurons`` is their shape before.

    Args:
        form: whether states are given.
        zero: what states start with where none are, as an element in ONNX's text format.
    """
    starts = f"""u_start = ConstantOfShape <value = {zero}> (lanes)
          v_start = Identity (u_start)"""
    finals = ""
    if form.states:
        starts = """u_start = Reshape <allowzero = 1> (initial_u, lanes)
          v_start = Reshape <allowzero = 1> (initial_v, lanes)"""
        finals = """
          final_u = Reshape <allowzero = 1> (u_end, neurons)
          final_v = Reshape <allowzero = 1> (v_end, neurons)"""
    return (
        f"""whole_shape = Shape (x)
          steps = Shape <start = 0, end = 1> (x)
          neurons = Shape <start = 1> (x)
          lanes = ReduceProd <keepdims = 1> (neurons)
          flat_shape = Concat <axis = 0> (steps, lanes)
          x_flat = Reshape <allowzero = 1> (x, flat_shape)
          {starts}""",
        finals,
    )


def bias_shifted(form: Form) -> str:
    """Lines before the Scan that make ``bias_full``, aligned with the states, of ``bias``; ``neurons`` is the shape of a step."""
    if not form.bias:
        return ""
    return """
          bias_int = Cast <to = 6> (bias)
          bias_shifted = Mul (bias_int, align)
          bias_full = Expand (bias_shifted, neurons)"""


def whole_input(form: Form) -> tuple[str, str]:
    """The element type of ``x`` in ONNX's text format, and the line in the step that makes the whole numbers ``x_whole`` of it.

    Both types go through a Cast behind it, so that the int32 form differs in nothing but the missing rounding.
    """
    if form.x_type == onnx.TensorProto.FLOAT:
        return "float", "x_whole = Round (x_t)"
    return "int32", "x_whole = Identity (x_t)"


def cuba_body(name: str, parameters: CubaParameters, form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time whose step works on one flat vector of neurons.

    The neurons of a step are flattened, because onnxruntime before 1.24 wants ranks inside a Scan, and a body that is to serve
    convolutional and dense layers alike has no other rank to promise.

    Args:
        name: of the operator.
        parameters: of its neurons.
        form: of its calls.
    """
    form = parameters.served(form)
    x_type, rounded = whole_input(form)
    inputs = ["x", *(["bias"] if form.bias or form.states else []), *parameters.inputs]
    inputs += ["initial_u", "initial_v"] if form.states else []
    outputs = "s, final_u, final_v" if form.states else "s"
    setup, finals = flat_states(form, "int32[1] {0}")
    arrays = ["bias_full"] if form.bias else []
    arrays += ["u_keep", "v_keep", "threshold"] if parameters.inputs else []
    flat = "".join(
        f"""
          {array}_flat = Reshape <allowzero = 1> ({array}, lanes)"""
        for array in arrays
    )
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {name} {parameters.head} ({", ".join(inputs)}) => ({outputs})
        {{{CUBA_REGISTERS}

          {setup}{parameters.setup}{bias_shifted(form)}{flat}

          u_end, v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (int32[?] u_in, int32[?] v_in, {x_type}[?] x_t) => (int32[?] u_out, int32[?] v_out, float[?] s_t)
            {{
              {rounded}
              a = Cast <to = 6> (x_whole)
              {cuba_step(form, {array: f"{array}_flat" for array in arrays})}
            }}> (u_start, v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape){finals}
        }}""")


def cuba_step(form: Form, names: Mapping[str, str] | None = None) -> str:
    """Lines in the step that make ``u_out``, ``v_out`` and ``s_t`` of ``u_in``, ``v_in`` and the sums ``a``, of any shape.

    * The product of a 24-bit state with a decay needs up to 36 bits: float64 holds it exactly, the division by 4096 is exact
      too, and the cast back to int32 is the rounding toward zero. Measured faster than int64 with its slow division.
    * Wrap and reset multiply by a comparison's 0 or 1: measured at half the time of Where, which onnxruntime broadcasts slowly.

    Args:
        form: of the calls.
        names: of the aligned bias and the parameters in the step, where they are others than before it.
    """
    own = names or {}
    bias, u_keep, v_keep, threshold = (own.get(name, name) for name in ("bias_full", "u_keep", "v_keep", "threshold"))
    charge = "v_charged = Add (v_kept, u_out)"
    if form.bias:
        charge = f"""v_unbiased = Add (v_kept, u_out)
              v_charged = Add (v_unbiased, {bias})"""
    return f"""a_shifted = Mul (a, align)

              u_double = Cast <to = 11> (u_in)
              u_decayed = Mul (u_double, {u_keep})
              u_kept = Cast <to = 6> (u_decayed)
              u_sum = Add (u_kept, a_shifted)
              u_above = Greater (u_sum, wrap_above)
              turns_down = Cast <to = 6> (u_above)
              down = Mul (turns_down, wrap_span)
              u_once = Sub (u_sum, down)
              u_below = LessOrEqual (u_once, wrap_below)
              turns_up = Cast <to = 6> (u_below)
              up = Mul (turns_up, wrap_span)
              u_out = Add (u_once, up)

              v_double = Cast <to = 11> (v_in)
              v_decayed = Mul (v_double, {v_keep})
              v_kept = Cast <to = 6> (v_decayed)
              {charge}
              v_clipped = Clip (v_charged, clip_low, clip_high)
              spike = Greater (v_clipped, {threshold})
              quiet = Not (spike)
              kept = Cast <to = 6> (quiet)
              v_out = Mul (v_clipped, kept)
              s_t = Cast <to = 1> (spike)"""
