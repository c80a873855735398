"""``snn.HeterogeneousCubaLIF`` and its recurrent twin: CUBA neurons of which each has decays and a threshold of its own."""

import numpy.typing as npt
import onnx
import onnx.parser

from .cuba_arithmetic import CubaLIFResult, RecurrentCubaLIFResult, fed_back, heterogeneous_cuba_lif
from .cuba_neuron import CUBA_EQUATIONS, CUBA_REGISTERS, cuba_step
from .definition import DOMAIN, OPSET, Form, Operator, Value

__all__ = [
    "HETEROGENEOUS_CUBA_LIF",
    "RECURRENT_HETEROGENEOUS_CUBA_LIF",
    "THRESHOLD_LIMIT",
    "recurrent_heterogeneous_cuba_lif",
]

THRESHOLD_LIMIT = 2**24 - 1
"""The largest threshold mantissa. From 2**17 on a neuron never fires, as its potential is clipped at 2**23 - 1: a readout."""

_PARAMETERS = """
          bias_int = Cast <to = 6> (bias)
          bias_shifted = Mul (bias_int, align)
          bias_full = Expand (bias_shifted, neurons)
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
          threshold = Expand (threshold_each, neurons)"""
"""Lines before the Scan that make of the parameters what a step reads, each as large as the neurons of a step."""


def _body(form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time whose step works on one flat vector of neurons, as that of ``CubaLIF`` does."""
    _require_plain(form)
    flat = "".join(
        f"""
          {name}_flat = Reshape <allowzero = 1> ({name}, lanes)"""
        for name in ("bias_full", "u_keep", "v_keep", "threshold")
    )
    step = cuba_step("bias_full_flat")
    for name in ("u_keep", "v_keep", "threshold"):
        step = step.replace(f", {name})", f", {name}_flat)")
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        HeterogeneousCubaLIF (x, bias, i_decay, v_decay, v_threshold) => (s)
        {{{CUBA_REGISTERS}

          whole_shape = Shape (x)
          steps = Shape <start = 0, end = 1> (x)
          neurons = Shape <start = 1> (x)
          lanes = ReduceProd <keepdims = 1> (neurons)
          flat_shape = Concat <axis = 0> (steps, lanes)
          x_flat = Reshape <allowzero = 1> (x, flat_shape)
          u_start = ConstantOfShape <value = int32[1] {{0}}> (lanes)
          v_start = Identity (u_start){_PARAMETERS}{flat}

          u_end, v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (int32[?] u_in, int32[?] v_in, float[?] x_t) => (int32[?] u_out, int32[?] v_out, float[?] s_t)
            {{
              x_whole = Round (x_t)
              a = Cast <to = 6> (x_whole)
              {step}
            }}> (u_start, v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape)
        }}""")


def _recurrent_body(form: Form) -> onnx.FunctionProto:
    """The function body: as that of ``RecurrentCubaLIF``, all states are ``[N, F]``."""
    _require_plain(form)
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        RecurrentHeterogeneousCubaLIF (x, recurrent_weight, bias, i_decay, v_decay, v_threshold) => (s)
        {{{CUBA_REGISTERS}

          neurons = Shape <start = 1> (x)
          features = Shape <start = 2> (x)
          square = Concat <axis = 0> (features, features)
          weight_square = Reshape <allowzero = 1> (recurrent_weight, square)
          w = Round (weight_square)
          u_start = ConstantOfShape <value = int32[1] {{0}}> (neurons)
          v_start = Identity (u_start)
          s_start = ConstantOfShape <value = float[1] {{0}}> (neurons){_PARAMETERS}

          u_end, v_end, s_end, s = Scan <num_scan_inputs = 1, body = step
            (int32[?, ?] u_in, int32[?, ?] v_in, float[?, ?] s_in, float[?, ?] x_t)
            => (int32[?, ?] u_out, int32[?, ?] v_out, float[?, ?] s_out, float[?, ?] s_t)
            {{
              x_whole = Round (x_t)
              x_int = Cast <to = 6> (x_whole)
              fed_back = MatMul (s_in, w)
              back_int = Cast <to = 6> (fed_back)
              a = Add (x_int, back_int)
              {cuba_step("bias_full")}
              s_out = Identity (s_t)
            }}> (u_start, v_start, s_start, x)
        }}""")


def _require_plain(form: Form) -> None:
    if form.x_type != onnx.TensorProto.FLOAT or form.states:
        raise ValueError("neurons with parameters of their own read float32, and keep their states to themselves")


def _parameters(shape: str) -> tuple[Value, ...]:
    integers = ("tensor(int32)",)
    return (
        Value("bias", integers, shape, "bias mantissa (exponent 6), added at every time step"),
        Value("i_decay", integers, shape, "decay of the synaptic current u per time step, 0 ... 4096, in units of 1/4096"),
        Value("v_decay", integers, shape, "decay of the membrane potential v per time step, likewise"),
        Value(
            "v_threshold",
            integers,
            shape,
            f"threshold mantissa, 0 ... {THRESHOLD_LIMIT}: fires where v > v_threshold * 64; never from 131072 on",
        ),
    )


def recurrent_heterogeneous_cuba_lif(
    x: npt.ArrayLike,
    recurrent_weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    i_decay: npt.ArrayLike,
    v_decay: npt.ArrayLike,
    v_threshold: npt.ArrayLike,
) -> RecurrentCubaLIFResult:
    """A dense layer of CUBA neurons that differ and hear each other: ``snn.RecurrentHeterogeneousCubaLIF`` in words.

    Args:
        x: synaptic sums from outside in weight units, ``[T, N, F]``.
        recurrent_weight: weight from each neuron (row) to each neuron (column), ``[F, F]``.
        bias: and the others: those of ``heterogeneous_cuba_lif``.

    Raises:
        ValueError: ``x`` is not ``[T, N, F]``, or ``recurrent_weight`` not ``[F, F]``.
    """

    def neuron(a: npt.ArrayLike, u: npt.ArrayLike | None, v: npt.ArrayLike | None) -> CubaLIFResult:
        return heterogeneous_cuba_lif(a, i_decay, v_decay, v_threshold, bias, u, v)

    return fed_back(x, recurrent_weight, neuron)


_SOURCE = "`PyLifModelBitAcc` in `lava/proc/lif/models.py` of lava-nc 0.10.0, whose parameters may be arrays."
_EQUATIONS = "all parameters are those of each neuron\n"

HETEROGENEOUS_CUBA_LIF = Operator(
    name="HeterogeneousCubaLIF",
    summary="CubaLIF neurons whose decays and thresholds differ from neuron to neuron, over all time steps of their input.",
    equations=_EQUATIONS + "a[t] = x[t], rounded to the nearest whole number (ties to even)\n" + CUBA_EQUATIONS,
    source=_SOURCE,
    attributes=(),
    inputs=(
        Value("x", ("tensor(float)",), "[T, N, *]", "synaptic sum of each time step in weight units, whole within ±2**24"),
        *_parameters("broadcast to [N, *]"),
    ),
    outputs=(Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),),
    body=_body,
    reference=heterogeneous_cuba_lif,
    native=True,
)

RECURRENT_HETEROGENEOUS_CUBA_LIF = Operator(
    name="RecurrentHeterogeneousCubaLIF",
    summary="Fully connected layer of HeterogeneousCubaLIF neurons whose own spikes come back one time step later.",
    equations=_EQUATIONS
    + """\
w    = recurrent_weight, rounded to the nearest whole numbers (ties to even)
a[t] = x[t], rounded likewise, + s[t-1] @ w,    s[-1] = 0
"""
    + CUBA_EQUATIONS,
    source=_SOURCE,
    attributes=(),
    inputs=(
        Value("x", ("tensor(float)",), "[T, N, F]", "synaptic sum from outside, in weight units, whole within ±2**24"),
        Value("recurrent_weight", ("tensor(float)",), "[F, F]", "weight from each neuron (row) to each (column), whole numbers"),
        *_parameters("broadcast to [N, F]"),
    ),
    outputs=(Value("s", ("tensor(float)",), "[T, N, F]", "1 where the neuron fires, else 0"),),
    body=_recurrent_body,
    reference=recurrent_heterogeneous_cuba_lif,
)
