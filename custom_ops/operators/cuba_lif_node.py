"""``snn.CubaLIFNode``: the CUBA neuron alone, which reads real numbers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser

from .cuba_neuron import flat_states
from .definition import DOMAIN, OPSET, Attribute, Form, Operator, TrainedClass, Value

__all__ = ["CUBA_LIF_NODE", "NO_LIMIT", "CubaLIFNodeResult", "cuba_lif_node"]

NO_LIMIT = 2**61
"""The ``limit`` of a neuron without registers: sums of twice as much still fit 64 bits."""

_EQUATIONS = """\
a[t] = rtz(x[t] * 64 * scale)
u[t] = wrap( rtz(u[t-1] * (4096 - i_decay) / 4096) + a[t] )
v[t] = clip( rtz(v[t-1] * (4096 - v_decay) / 4096) + u[t] )
s[t] = v[t] >= lowest;    v[t] = 0 where s[t]

rtz   rounds toward zero
wrap  subtracts 2 * limit above limit and adds it at or below -limit, once
clip  clips to -(limit - 1) ... limit - 1
States are whole numbers, kept as float32 from step to step."""


def _body(form: Form) -> onnx.FunctionProto:
    """The function body: a Scan over time whose step works on one flat vector of neurons, as that of ``CubaLIF`` does.

    Sums are 64 bits wide, where Div rounds toward zero as ONNX says. States pass through float32 as in SpikingJelly, which
    counts beyond 2**24, where no limit keeps them below.
    """
    if form.bias or form.x_type != onnx.TensorProto.FLOAT:
        raise ValueError(f"{DOMAIN}.CubaLIFNode takes float32 input and no bias")
    inputs, outputs = ("x, initial_u, initial_v", "s, final_u, final_v") if form.states else ("x", "s")
    setup, finals = flat_states(form, "float[1] {0.0}")
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        CubaLIFNode <i_decay, v_decay, scale, lowest, limit> ({inputs}) => ({outputs})
        {{
          unity = Constant <value = int64 {{4096}}> ()
          align = Constant <value = int64 {{64}}> ()
          two = Constant <value = int64 {{2}}> ()
          one = Constant <value = int64 {{1}}> ()
          i_decay_int = Constant <value_int: int = @i_decay> ()
          u_keep = Sub (unity, i_decay_int)
          v_decay_int = Constant <value_int: int = @v_decay> ()
          v_keep = Sub (unity, v_decay_int)
          scale_int = Constant <value_int: int = @scale> ()
          s_scale_int = Mul (scale_int, align)
          s_scale = Cast <to = 1> (s_scale_int)
          lowest_int = Constant <value_int: int = @lowest> ()
          wrap_above = Constant <value_int: int = @limit> ()
          wrap_below = Neg (wrap_above)
          wrap_span = Mul (wrap_above, two)
          clip_high = Sub (wrap_above, one)
          clip_low = Neg (clip_high)

          {setup}

          u_end, v_end, s_flat = Scan <num_scan_inputs = 1, body = step
            (float[M] u_in, float[M] v_in, float[M] x_t) => (float[M] u_out, float[M] v_out, float[M] s_t)
            {{
              a_real = Mul (x_t, s_scale)
              a = Cast <to = 7> (a_real)

              u_int = Cast <to = 7> (u_in)
              u_product = Mul (u_int, u_keep)
              u_kept = Div (u_product, unity)
              u_sum = Add (u_kept, a)
              u_above = Greater (u_sum, wrap_above)
              turns_down = Cast <to = 7> (u_above)
              down = Mul (turns_down, wrap_span)
              u_once = Sub (u_sum, down)
              u_below = LessOrEqual (u_once, wrap_below)
              turns_up = Cast <to = 7> (u_below)
              up = Mul (turns_up, wrap_span)
              u_wrapped = Add (u_once, up)
              u_out = Cast <to = 1> (u_wrapped)

              u_rounded = Cast <to = 7> (u_out)
              v_int = Cast <to = 7> (v_in)
              v_product = Mul (v_int, v_keep)
              v_kept = Div (v_product, unity)
              v_charged = Add (v_kept, u_rounded)
              v_clipped = Clip (v_charged, clip_low, clip_high)
              v_real = Cast <to = 1> (v_clipped)
              v_rounded = Cast <to = 7> (v_real)
              spike = GreaterOrEqual (v_rounded, lowest_int)
              quiet = Not (spike)
              kept = Cast <to = 1> (quiet)
              v_out = Mul (v_real, kept)
              s_t = Cast <to = 1> (spike)
            }}> (u_start, v_start, x_flat)
          s = Reshape <allowzero = 1> (s_flat, whole_shape){finals}
        }}""")


class CubaLIFNodeResult(NamedTuple):
    """What :func:`cuba_lif_node` gives.

    Attributes:
        s: spikes, float32 of 0 and 1, ``[T, N, *]``.
        u: synaptic current after the last step, whole state units as float32, ``[N, *]``.
        v: membrane potential after the last step, likewise.
    """

    s: npt.NDArray[np.float32]
    u: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]


def cuba_lif_node(
    x: npt.ArrayLike,
    i_decay: int,
    v_decay: int,
    scale: int,
    lowest: int,
    limit: int,
    initial_u: npt.ArrayLike | None = None,
    initial_v: npt.ArrayLike | None = None,
) -> CubaLIFNodeResult:
    """The CUBA neuron that reads real numbers: the arithmetic of the function ``snn.CubaLIFNode`` in words.

    Args:
        x: input of each time step, ``[T, N, *]``.
        i_decay: current decay, 0 ... 4096, in units of 1/4096 per time step.
        v_decay: voltage decay, likewise.
        scale: weight units in 1.0; a state unit is 1/64 of one.
        lowest: the lowest voltage that fires, in state units.
        limit: what states wrap and clip at, in state units.
        initial_u: current before the first step, ``[N, *]``, in whole state units; 0 by default.
        initial_v: voltage before the first step, likewise.
    """
    x = np.asarray(x, np.float32)
    u = np.zeros(x.shape[1:], np.float32) if initial_u is None else np.array(initial_u, np.float32)
    v = np.zeros(x.shape[1:], np.float32) if initial_v is None else np.array(initial_v, np.float32)
    s_seq = np.empty_like(x)
    for t in range(x.shape[0]):
        a = (x[t] * np.float32(64 * scale)).astype(np.int64)
        current = _decayed(u, i_decay) + a
        current = np.where(current > limit, current - 2 * limit, current)
        current = np.where(current <= -limit, current + 2 * limit, current)
        u = current.astype(np.float32)
        v = np.clip(_decayed(v, v_decay) + u.astype(np.int64), 1 - limit, limit - 1).astype(np.float32)
        s_seq[t] = v.astype(np.int64) >= lowest
        v = np.where(s_seq[t] != 0, np.float32(0), v)
    return CubaLIFNodeResult(s_seq, u, v)


def _decayed(state: npt.NDArray[np.float32], decay: int) -> npt.NDArray[np.int64]:
    """``state * (4096 - decay) / 4096``, rounded toward zero."""
    product = state.astype(np.int64) * (4096 - decay)
    kept: npt.NDArray[np.int64] = np.sign(product) * (np.abs(product) >> 12)
    return kept


def _bounded(node: Any) -> Mapping[str, int | float]:
    """Of ``sj2onnx.CubaLIFNode``, whose states have the chip's 24 bits."""
    _refuse_norm(node)
    params = node.device_params
    decays = {name: params[name] for name in ("i_decay", "v_decay")}
    return {**decays, "scale": node.scale, "lowest": 64 * params["v_threshold"] + 1, "limit": 2**23}


def _published(node: Any) -> Mapping[str, int | float]:
    """SpikingJelly's arithmetic, in which whole state units are float32: exact where dividing by the scale is."""
    _refuse_norm(node)
    if node.s_scale != 64 * node.scale or not 0 < node.scale <= 2**18 or node.scale & (node.scale - 1):
        raise ValueError(
            f"its scale of {node.s_scale / 64:g} is not a power of two up to 2**18, so that its states are rounded at each step: "
            "use one, or sj2onnx.CubaLIFNode"
        )
    decays = [float(decay.detach().clamp(0, node.p_scale).round()) for decay in (node.current_decay, node.voltage_decay)]
    # Compared in float32, where v_threshold_eps may be lost.
    lowest = float(np.float32(node.v_threshold + node.v_threshold_eps)) * node.s_scale
    if not all(map(math.isfinite, [*decays, lowest])) or abs(lowest) > 2**53:
        raise ValueError("its decays or its threshold are not finite numbers: train again with a smaller learning rate")
    i_decay, v_decay = map(int, decays)
    return {"i_decay": i_decay, "v_decay": v_decay, "scale": node.scale, "lowest": math.ceil(lowest), "limit": NO_LIMIT}


def _refuse_norm(node: Any) -> None:
    if node.norm is not None:
        raise ValueError("its norm has to go into the weights of a synapse: put both into a sj2onnx.BlockContainer")


def _at_rest(node: Any) -> tuple[float, ...]:
    return (0.0, 0.0)


_STATES = ("current_state", "voltage_state")
_STATE = ("tensor(float)",), "[N, *]"

CUBA_LIF_NODE = Operator(
    name="CubaLIFNode",
    summary="Current-based leaky integrate-and-fire neuron in whole state units, fed with real numbers, over all time steps.",
    equations=_EQUATIONS,
    source="`CubaLIFNode` of SpikingJelly 2.0.0 (`activation_based/lava_exchange.py`), `Neuron` of lava-dl 0.6.0 "
    "(`slayer/neuron/cuba.py`).",
    attributes=(
        Attribute("i_decay", "int", "decay of the synaptic current u per time step, in units of 1/4096", (0, 4096)),
        Attribute("v_decay", "int", "decay of the membrane potential v per time step, in units of 1/4096", (0, 4096)),
        Attribute("scale", "int", "weight units in 1.0; a state unit is 1/64 of one", (1, 2**18)),
        Attribute("lowest", "int", "the lowest membrane potential that fires, in state units", (-(2**53), 2**53)),
        Attribute(
            "limit", "int", "what states wrap and clip at, in state units: 2**23 for 24 bits, 2**61 for none", (1, NO_LIMIT)
        ),
    ),
    inputs=(
        Value("x", ("tensor(float)",), "[T, N, *]", "input of each time step, any numbers"),
        Value("initial_u", *_STATE, "synaptic current before the first step, whole state units", optional=True),
        Value("initial_v", *_STATE, "membrane potential before the first step, whole state units", optional=True),
    ),
    outputs=(
        Value("s", ("tensor(float)",), "[T, N, *]", "1 where the neuron fires, else 0"),
        Value("final_u", *_STATE, "synaptic current after the last step, whole state units", optional=True),
        Value("final_v", *_STATE, "membrane potential after the last step (0 where it fired), likewise", optional=True),
    ),
    body=_body,
    reference=cuba_lif_node,
    # Alone, fed with real numbers. Inside a BlockContainer they are snn.CubaLIF.
    classes=(
        TrainedClass("sj2onnx.cuba_neuron.CubaLIFNode", _bounded, _STATES, _at_rest),
        TrainedClass("spikingjelly.activation_based.lava_exchange.CubaLIFNode", _published, _STATES, _at_rest),
    ),
)
