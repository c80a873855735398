"""What the neurons in Loihi's integers share: attributes, equations, and the arithmetic of a time step of their bodies."""

import onnx

from .definition import Attribute, Form, Value

__all__ = [
    "CUBA_ATTRIBUTES",
    "CUBA_CONSTANTS",
    "CUBA_EQUATIONS",
    "CUBA_REGISTERS",
    "bias_shifted",
    "cuba_state",
    "cuba_step",
    "flat_states",
    "whole_input",
]

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
"""Lines before the Scan, in ONNX's text format: the constants that :func:`cuba_step` and :func:`bias_shifted` read."""

CUBA_CONSTANTS = (
    CUBA_REGISTERS
    + """
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
          threshold = Mul (threshold_mantissa, align)"""
)
"""Likewise, with the decays and the threshold that the attributes give all neurons."""


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


def cuba_step(bias: str | None) -> str:
    """Lines in the step that make ``u_out``, ``v_out`` and ``s_t`` of ``u_in``, ``v_in`` and the sums ``a``, of any shape.

    * The product of a 24-bit state with a decay needs up to 36 bits: float64 holds it exactly, the division by 4096 is exact
      too, and the cast back to int32 is the rounding toward zero. Measured faster than int64 with its slow division.
    * Wrap and reset multiply by a comparison's 0 or 1: measured at half the time of Where, which onnxruntime broadcasts slowly.

    Args:
        bias: name of the aligned bias, of the shape of a step; None without one.
    """
    charge = "v_charged = Add (v_kept, u_out)"
    if bias is not None:
        charge = f"""v_unbiased = Add (v_kept, u_out)
              v_charged = Add (v_unbiased, {bias})"""
    return f"""a_shifted = Mul (a, align)

              u_double = Cast <to = 11> (u_in)
              u_decayed = Mul (u_double, u_keep)
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
              v_decayed = Mul (v_double, v_keep)
              v_kept = Cast <to = 6> (v_decayed)
              {charge}
              v_clipped = Clip (v_charged, clip_low, clip_high)
              spike = Greater (v_clipped, threshold)
              quiet = Not (spike)
              kept = Cast <to = 6> (quiet)
              v_out = Mul (v_clipped, kept)
              s_t = Cast <to = 1> (spike)"""
