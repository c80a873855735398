"""``snn.RecurrentCubaLIF``: a dense layer of CUBA neurons whose own spikes come back one time step later."""

import numpy.typing as npt
import onnx
import onnx.parser

from .cuba_arithmetic import CubaLIFResult, RecurrentCubaLIFResult, fed_back
from .cuba_lif import cuba_lif
from .cuba_neuron import CUBA_ATTRIBUTES, CUBA_CONSTANTS, CUBA_EQUATIONS, bias_shifted, cuba_state, cuba_step, whole_input
from .definition import DOMAIN, OPSET, Form, Operator, Value

__all__ = ["RECURRENT_CUBA_LIF", "recurrent_cuba_lif"]

_EQUATIONS = (
    """\
w    = recurrent_weight, rounded to the nearest whole numbers (ties to even)
a[t] = x[t], rounded likewise, + s[t-1] @ w,    s[-1] = initial_s != 0, or 0 without it
"""
    + CUBA_EQUATIONS
)


def _body(form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time with the spikes as a third state; all states are ``[N, F]``.

    * The weights are rounded, not the products' sum: a sum of whole numbers has one value in float32, in whatever order a
      MatMul forms it, and so the native kernel may add up the rows of the neurons that fired.
    * A matrix that is not square is refused by the Reshape: one of a single column would otherwise be broadcast.
    """
    x_type, rounded = whole_input(form)
    inputs = ["x", "recurrent_weight"]
    outputs = ["s"]
    starts = """
          u_start = ConstantOfShape <value = int32[1] {0}> (neurons)
          v_start = Identity (u_start)
          s_start = ConstantOfShape <value = float[1] {0}> (neurons)"""
    finals = ""
    if form.bias or form.states:
        inputs.append("bias")
    if form.states:
        inputs += ["initial_u", "initial_v", "initial_s"]
        outputs += ["final_u", "final_v", "final_s"]
        starts = """
          u_start = Identity (initial_u)
          v_start = Identity (initial_v)
          fired_before = Cast <to = 9> (initial_s)
          s_start = Cast <to = 1> (fired_before)"""
        finals = """
          final_u = Identity (u_end)
          final_v = Identity (v_end)
          final_s = Identity (s_end)"""
    text = f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        RecurrentCubaLIF <i_decay, v_decay, v_threshold> ({", ".join(inputs)}) => ({", ".join(outputs)})
        {{{CUBA_CONSTANTS}

          neurons = Shape <start = 1> (x)
          features = Shape <start = 2> (x)
          square = Concat <axis = 0> (features, features)
          weight_square = Reshape <allowzero = 1> (recurrent_weight, square)
          w = Round (weight_square){starts}{bias_shifted(form)}

          u_end, v_end, s_end, s = Scan <num_scan_inputs = 1, body = step
            (int32[?, ?] u_in, int32[?, ?] v_in, float[?, ?] s_in, {x_type}[?, ?] x_t)
            => (int32[?, ?] u_out, int32[?, ?] v_out, float[?, ?] s_out, float[?, ?] s_t)
            {{
              {rounded}
              x_int = Cast <to = 6> (x_whole)
              fed_back = MatMul (s_in, w)
              back_int = Cast <to = 6> (fed_back)
              a = Add (x_int, back_int)
              {cuba_step("bias_full" if form.bias else None)}
              s_out = Identity (s_t)
            }}> (u_start, v_start, s_start, x){finals}
        }}"""
    return onnx.parser.parse_function(text)


def recurrent_cuba_lif(
    x: npt.ArrayLike,
    recurrent_weight: npt.ArrayLike,
    i_decay: int,
    v_decay: int,
    v_threshold: int,
    bias: npt.ArrayLike | None = None,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
    initial_s: npt.ArrayLike | None = None,
) -> RecurrentCubaLIFResult:
    """A dense layer of CUBA neurons that hear each other: the arithmetic of the operator ``snn.RecurrentCubaLIF`` in words.

    Formula: ``RecurrentDense`` in ``lava/lib/dl/netx/blocks/process.py`` of lava-dl 0.6.0; the neuron is that of
    ``cuba_lif``, whose other arguments mean the same here.

    Args:
        x: synaptic sums from outside in weight units, ``[T, N, F]``; float (rounded, ties to even) or int32.
        recurrent_weight: weight from each neuron (row) to each neuron (column), ``[F, F]``; rounded likewise.
        initial_s: spikes of the step before the first one, ``[N, F]``; whatever is not 0 is a spike. None by default.

    Raises:
        ValueError: an attribute is out of its range, ``x`` is not ``[T, N, F]``, or ``recurrent_weight`` not ``[F, F]``.
    """

    def neuron(a: npt.ArrayLike, u: npt.ArrayLike | None, v: npt.ArrayLike | None) -> CubaLIFResult:
        return cuba_lif(a, i_decay, v_decay, v_threshold, bias, u, v)

    return fed_back(x, recurrent_weight, neuron, initial_u, initial_v, initial_s)


RECURRENT_CUBA_LIF = Operator(
    name="RecurrentCubaLIF",
    summary="Fully connected layer of CubaLIF neurons whose own spikes come back through a weight matrix one time step later.",
    equations=_EQUATIONS,
    source=(
        "`RecurrentDense` in `lava/lib/dl/netx/blocks/process.py` and `lava/lib/dl/slayer/utils/recurrent.py` of lava-dl 0.6.0; "
        "the neuron is `PyLifModelBitAcc` in `lava/proc/lif/models.py` of lava-nc 0.10.0."
    ),
    attributes=CUBA_ATTRIBUTES,
    inputs=(
        Value(
            "x",
            ("tensor(float)", "tensor(int32)"),
            "[T, N, F]",
            "synaptic sum of each time step from outside, in weight units; as float32, whole numbers within ±2**24",
        ),
        Value(
            "recurrent_weight",
            ("tensor(float)",),
            "[F, F]",
            "weight from each neuron (row) to each (column), whole numbers; the magnitudes in a column sum up to at most 2**24",
        ),
        Value(
            "bias",
            ("tensor(float)", "tensor(int32)"),
            "broadcast to [N, F]",
            "bias mantissa (exponent 6), a whole number in -4096 ... 4095, added at every time step",
            optional=True,
        ),
        cuba_state("initial_u", "[N, F]", "synaptic current before the first step"),
        cuba_state("initial_v", "[N, F]", "membrane potential before the first step"),
        Value(
            "initial_s",
            ("tensor(float)",),
            "[N, F]",
            "spikes of the step before the first one; whatever is not 0 is a spike",
            optional=True,
        ),
    ),
    outputs=(
        Value("s", ("tensor(float)",), "[T, N, F]", "1 where the neuron fires, else 0"),
        cuba_state("final_u", "[N, F]", "synaptic current after the last step"),
        cuba_state("final_v", "[N, F]", "membrane potential after the last step (0 where it fired)"),
        Value("final_s", ("tensor(float)",), "[N, F]", "spikes of the last step", optional=True),
    ),
    body=_body,
    reference=recurrent_cuba_lif,
    native=True,
)
