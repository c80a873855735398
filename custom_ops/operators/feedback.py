"""Feedback around a neuron: a dense layer whose own spikes come back through a matrix one time step later."""

from dataclasses import replace
from functools import partial

import onnx
import onnx.parser

from .cuba_arithmetic import fed_back
from .cuba_neuron import CUBA_REGISTERS, CUBA_SUMS, CubaParameters, bias_shifted, cuba_step, whole_input
from .definition import DOMAIN, OPSET, Form, Operator, Value

__all__ = ["with_feedback"]

_SUMS = """\
w    = recurrent_weight, rounded to the nearest whole numbers (ties to even)
a[t] = x[t], rounded likewise, + s[t-1] @ w,    s[-1] = """
_WEIGHT = Value(
    "recurrent_weight",
    ("tensor(float)",),
    "[F, F]",
    "weight from each neuron (row) to each (column), whole numbers; the magnitudes in a column sum up to at most 2**24",
)
_INITIAL = Value(
    "initial_s",
    ("tensor(float)",),
    "[N, F]",
    "spikes of the step before the first one; whatever is not 0 is a spike",
    optional=True,
)
_FINAL = Value("final_s", ("tensor(float)",), "[N, F]", "spikes of the last step", optional=True)


def with_feedback(neuron: Operator, parameters: CubaParameters, *, native: bool) -> Operator:
    """A fully connected layer of neurons in Loihi's integers that hear each other: ``snn.Recurrent`` and the neuron's name.

    It reads ``recurrent_weight`` behind ``x``; the rest is the neuron's, for features ``[F]``. Where that takes states, it also
    takes the spikes of the step before the first one.

    Formula: ``RecurrentDense`` in ``lava/lib/dl/netx/blocks/process.py`` of lava-dl 0.6.0.

    Args:
        neuron: its equations begin with ``CUBA_SUMS``, or have them inside.
        parameters: where the neuron's body finds its numbers.
        native: whether the native library has a kernel for it.
    """
    name = f"Recurrent{neuron.name}"
    x, *others = (_of_features(value) for value in neuron.inputs)
    outputs = tuple(_of_features(value) for value in neuron.outputs)
    has_states = len(outputs) > 1
    return replace(
        neuron,
        name=name,
        summary=f"Dense layer of {neuron.name} neurons whose own spikes come back through a weight matrix one time step later.",
        equations=neuron.equations.replace(CUBA_SUMS, f"{_SUMS}{'initial_s != 0, or 0 without it' if has_states else '0'}\n"),
        source=(
            "`RecurrentDense` in `lava/lib/dl/netx/blocks/process.py` and `lava/lib/dl/slayer/utils/recurrent.py` "
            f"of lava-dl 0.6.0; the neuron is {neuron.source}"
        ),
        inputs=(x, _WEIGHT, *others, *([_INITIAL] if has_states else [])),
        outputs=(*outputs, *([_FINAL] if has_states else [])),
        body=partial(_body, name, parameters),
        reference=partial(fed_back, neuron.reference),
        native=native,
        classes=(),
        on_loihi=None,
    )


def _of_features(value: Value) -> Value:
    return replace(value, shape=value.shape.replace("*", "F"))


def _body(name: str, parameters: CubaParameters, form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time with the spikes as a third state; all states are ``[N, F]``.

    * The weights are rounded, not the products' sum: a sum of whole numbers has one value in float32, in whatever order a
      MatMul forms it, and so the native kernel may add up the rows of the neurons that fired.
    * A matrix that is not square is refused by the Reshape: one of a single column would otherwise be broadcast.
    """
    form = parameters.served(form)
    x_type, rounded = whole_input(form)
    inputs = ["x", _WEIGHT.name, *(["bias"] if form.bias or form.states else []), *parameters.inputs]
    outputs = ["s"]
    starts = """
          u_start = ConstantOfShape <value = int32[1] {0}> (neurons)
          v_start = Identity (u_start)
          s_start = ConstantOfShape <value = float[1] {0}> (neurons)"""
    finals = ""
    if form.states:
        inputs += ["initial_u", "initial_v", _INITIAL.name]
        outputs += ["final_u", "final_v", _FINAL.name]
        starts = """
          u_start = Identity (initial_u)
          v_start = Identity (initial_v)
          fired_before = Cast <to = 9> (initial_s)
          s_start = Cast <to = 1> (fired_before)"""
        finals = """
          final_u = Identity (u_end)
          final_v = Identity (v_end)
          final_s = Identity (s_end)"""
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {name} {parameters.head} ({", ".join(inputs)}) => ({", ".join(outputs)})
        {{{CUBA_REGISTERS}

          neurons = Shape <start = 1> (x)
          features = Shape <start = 2> (x)
          square = Concat <axis = 0> (features, features)
          weight_square = Reshape <allowzero = 1> (recurrent_weight, square)
          w = Round (weight_square){starts}{parameters.setup}{bias_shifted(form)}

          u_end, v_end, s_end, s = Scan <num_scan_inputs = 1, body = step
            (int32[?, ?] u_in, int32[?, ?] v_in, float[?, ?] s_in, {x_type}[?, ?] x_t)
            => (int32[?, ?] u_out, int32[?, ?] v_out, float[?, ?] s_out, float[?, ?] s_t)
            {{
              {rounded}
              x_int = Cast <to = 6> (x_whole)
              fed_back = MatMul (s_in, w)
              back_int = Cast <to = 6> (fed_back)
              a = Add (x_int, back_int)
              {cuba_step(form)}
              s_out = Identity (s_t)
            }}> (u_start, v_start, s_start, x){finals}
        }}""")
