"""``snn.CubaLIF``: the current-based leaky integrate-and-fire neuron in Loihi's integers."""

import onnx
import onnx.parser

from .definition import DOMAIN, OPSET, Attribute, Form, Operator, Value

__all__ = ["CUBA_LIF"]

_EQUATIONS = """\
a[t] = x[t], rounded to the nearest whole number (ties to even)
u[t] = wrap24( rtz(u[t-1] * (4096 - i_decay) / 4096) + (a[t] << 6) )
v[t] = clip24( rtz(v[t-1] * (4096 - v_decay) / 4096) + u[t] + (bias << 6) )
s[t] = v[t] > (v_threshold << 6);    v[t] = 0 where s[t]

rtz     rounds toward zero
wrap24  subtracts 2**24 above 2**23 and adds it at or below -2**23, once
clip24  clips to -(2**23 - 1) ... 2**23 - 1
Sums are 32-bit two's complement."""

_STATE_DOC = "in the unit of the state registers, 2**-6 of a weight unit"


def _body(form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time whose step works on one flat vector of neurons.

    * The neurons of a step are flattened, because onnxruntime before 1.24 wants ranks inside a Scan, and a body that is to
      serve convolutional and dense layers alike has no other rank to promise.
    * The product of a 24-bit state with a decay needs up to 36 bits: float64 holds it exactly, the division by 4096 is exact
      too, and the cast back to int32 is the rounding toward zero. Measured faster than int64 with its slow division.
    * Wrap and reset multiply by a comparison's 0 or 1: measured at half the time of Where, which onnxruntime broadcasts slowly.
    """
    x_type = {onnx.TensorProto.FLOAT: "float", onnx.TensorProto.INT32: "int32"}[form.x_type]
    # Both element types go through Cast, so that the int32 form differs in nothing but the missing rounding.
    rounded = "a_whole = Round (x_t)" if x_type == "float" else "a_whole = Identity (x_t)"
    inputs = "x, bias, initial_u, initial_v" if form.states else "x, bias" if form.bias else "x"
    outputs = "s, final_u, final_v" if form.states else "s"
    bias_setup = bias_step = ""
    v_charged = "v_charged = Add (v_kept, u_out)"
    if form.bias:
        bias_setup = """
          bias_int = Cast <to = 6> (bias)
          bias_shifted = Mul (bias_int, align)
          bias_full = Expand (bias_shifted, neurons)
          bias_flat = Reshape <allowzero = 1> (bias_full, lanes)"""
        bias_step = "v_unbiased = Add (v_kept, u_out)"
        v_charged = "v_charged = Add (v_unbiased, bias_flat)"
    if form.states:
        u_start = "u_start = Reshape <allowzero = 1> (initial_u, lanes)"
        v_start = "v_start = Reshape <allowzero = 1> (initial_v, lanes)"
        finals = """
          final_u = Reshape <allowzero = 1> (u_end, neurons)
          final_v = Reshape <allowzero = 1> (v_end, neurons)"""
    else:
        u_start = "u_start = ConstantOfShape <value = int32[1] {0}> (lanes)"
        v_start = "v_start = Identity (u_start)"
        finals = ""
    text = f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        CubaLIF <i_decay, v_decay, v_threshold> ({inputs}) => ({outputs})
        {{
          unity = Constant <value = double {{4096.0}}> ()
          i_decay_int = Constant <value_int: int = @i_decay> ()
          i_decay_double = Cast <to = 11> (i_decay_int)
          i_rest = Sub (unity, i_decay_double)
          u_keep = Div (i_rest, unity)
          v_decay_int = Constant <value_int: int = @v_decay> ()
          v_decay_double = Cast <to = 11> (v_decay_int)
          v_rest = Sub (unity, v_decay_double)
          v_keep = Div (v_rest, unity)
          align = Constant <value = int32 {{64}}> ()
          threshold_int = Constant <value_int: int = @v_threshold> ()
          threshold_mantissa = Cast <to = 6> (threshold_int)
          threshold = Mul (threshold_mantissa, align)
          wrap_above = Constant <value = int32 {{8388608}}> ()
          wrap_below = Neg (wrap_above)
          wrap_span = Constant <value = int32 {{16777216}}> ()
          clip_high = Constant <value = int32 {{8388607}}> ()
          clip_low = Neg (clip_high)

          whole_shape = Shape (x)
          steps = Shape <start = 0, end = 1> (x)
          neurons = Shape <start = 1> (x)
          lanes = ReduceProd <keepdims = 1> (neurons)
          flat_shape = Concat <axis = 0> (steps, lanes)
          x_flat = Reshape <allowzero = 1> (x, flat_shape)
          {u_start}
          {v_start}{bias_setup}

          u_end, v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (int32[M] u_in, int32[M] v_in, {x_type}[M] x_t) => (int32[M] u_out, int32[M] v_out, float[M] s_t)
            {{
              {rounded}
              a = Cast <to = 6> (a_whole)
              a_shifted = Mul (a, align)

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
              {bias_step}
              {v_charged}
              v_clipped = Clip (v_charged, clip_low, clip_high)
              spike = Greater (v_clipped, threshold)
              quiet = Not (spike)
              kept = Cast <to = 6> (quiet)
              v_out = Mul (v_clipped, kept)
              s_t = Cast <to = 1> (spike)
            }}> (u_start, v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape){finals}
        }}"""
    return onnx.parser.parse_function(text)


CUBA_LIF = Operator(
    name="CubaLIF",
    summary="Current-based leaky integrate-and-fire neuron in the integer arithmetic of Loihi, over all time steps of its input.",
    equations=_EQUATIONS,
    source="`PyLifModelBitAcc` in `lava/proc/lif/models.py` of lava-nc 0.10.0.",
    attributes=(
        Attribute("i_decay", "int", "decay of the synaptic current u per time step, in units of 1/4096", (0, 4096)),
        Attribute("v_decay", "int", "decay of the membrane potential v per time step, in units of 1/4096", (0, 4096)),
        Attribute("v_threshold", "int", "threshold mantissa: the neuron fires where v > v_threshold * 64", (0, 131071)),
    ),
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
        Value(
            "initial_u",
            ("tensor(int32)",),
            "[N, *]",
            f"synaptic current before the first step, {_STATE_DOC}",
            optional=True,
        ),
        Value(
            "initial_v",
            ("tensor(int32)",),
            "[N, *]",
            f"membrane potential before the first step, {_STATE_DOC}",
            optional=True,
        ),
    ),
    outputs=(
        Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),
        Value(
            "final_u",
            ("tensor(int32)",),
            "[N, *]",
            f"synaptic current after the last step, {_STATE_DOC}",
            optional=True,
        ),
        Value(
            "final_v",
            ("tensor(int32)",),
            "[N, *]",
            f"membrane potential after the last step (0 where it fired), {_STATE_DOC}",
            optional=True,
        ),
    ),
    body=_body,
)
