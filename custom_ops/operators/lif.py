"""``snn.LIF``: SpikingJelly's leaky integrate-and-fire neuron, with a fixed or a trained time constant."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .definition import Attribute, Form, Operator, SpikingNeuron
from .float_arithmetic import FloatResult, float_neuron
from .float_neuron import (
    FLOAT_INPUTS,
    FLOAT_OUTPUTS,
    LARGEST,
    RESET_EQUATIONS,
    THRESHOLD_ATTRIBUTES,
    float_class,
    float_neuron_body,
    number,
)

__all__ = ["LIF", "lif"]

_EQUATIONS = """\
h[t] = v[t-1] + leak(x[t] - (v[t-1] - v_reset))        with decay_input
h[t] = v[t-1] - leak(v[t-1] - v_reset) + x[t]          without
leak(y) = y / tau or y * decay, whichever is given
"""


def _body(form: Form) -> onnx.FunctionProto:
    """The absent one of tau and decay becomes 1, and dividing or multiplying by 1 is exact: one body serves both.

    The input enters inside the leak or behind it; the place where it does not enter gets a zero by selection, because a product
    with zero would turn an infinite input into NaN.
    """
    return float_neuron_body(
        "LIF",
        form,
        defaults={"tau": 1.0, "decay": 1.0, "decay_input": 1},
        setup="""
          tau = Constant <value_float: float = @tau> ()
          decay = Constant <value_float: float = @decay> ()
          decay_input_int = Constant <value_int: int = @decay_input> ()
          decays_input = Cast <to = 9> (decay_input_int)""",
        charge="""
              gap = Sub (v_in, v_reset)
              x_leaking = Where (decays_input, x_t, zero)
              x_direct = Where (decays_input, zero, x_t)
              drive = Sub (x_leaking, gap)
              drive_divided = Div (drive, tau)
              drive_leaked = Mul (drive_divided, decay)
              v_leaked = Add (v_in, drive_leaked)
              h = Add (v_leaked, x_direct)""",
    )


def lif(
    x: npt.ArrayLike,
    v_threshold: float,
    v_reset: float | None = None,
    *,
    tau: float | None = None,
    decay: float | None = None,
    decay_input: bool = True,
    initial_v: npt.ArrayLike | None = None,
) -> FloatResult:
    """SpikingJelly's LIF neuron: the arithmetic of the operator ``snn.LIF`` in words, each operation in float32.

    Formula: ``LIFNode`` (with ``tau``) and ``ParametricLIFNode`` (with ``decay``) of SpikingJelly 2.0.0,
    ``_ops/lif/reference.py`` and ``_ops/plif/reference.py``.

    Args:
        x: input current, ``[T, N, *]``.
        v_threshold: membrane potential from which on the neuron fires.
        v_reset: membrane potential after a spike, and that to which it leaks; None for a soft reset and a leak to 0.
        tau: membrane time constant in time steps, at least 1. Give either this or ``decay``.
        decay: its inverse, 0 ... 1; the neuron multiplies by it, which rounds differently from dividing by ``tau``.
        decay_input: whether the input leaks as well.
        initial_v: membrane potential before the first step, ``[N, *]``; by default ``v_reset``, or 0 with a soft reset.

    Raises:
        ValueError: both or neither of ``tau`` and ``decay`` are given, or ``x`` has fewer than two dimensions.
    """
    if (tau is None) == (decay is None):
        raise ValueError("give either tau or decay")
    rest = np.float32(0 if v_reset is None else v_reset)

    def leak(y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return y * np.float32(decay) if tau is None else y / np.float32(tau)

    def charge(v: npt.NDArray[np.float32], x_t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return v + leak(x_t - (v - rest)) if decay_input else v - leak(v - rest) + x_t

    return float_neuron(x, charge, v_threshold, v_reset, initial_v)


def _time_constant(node: Any) -> Mapping[str, int | float]:
    return {"tau": number(node.tau), "decay_input": int(node.decay_input)}


def _trained_decay(node: Any) -> Mapping[str, int | float]:
    # In float32, as the neuron itself computes it.
    return {"decay": float(node.w.detach().float().sigmoid()), "decay_input": int(node.decay_input)}


def _on_loihi(attributes: Mapping[str, Any]) -> SpikingNeuron:
    tau, decay = attributes["tau"], attributes["decay"]
    leak = 1 / tau if decay is None else decay
    return SpikingNeuron(attributes["v_threshold"], attributes["v_reset"], leak, bool(attributes["decay_input"]))


_NEURONS = "spikingjelly.activation_based.neuron"

LIF = Operator(
    name="LIF",
    summary="Leaky integrate-and-fire neuron of SpikingJelly, over all time steps of its input.",
    equations=_EQUATIONS + RESET_EQUATIONS,
    source="`LIFNode` and `ParametricLIFNode` of SpikingJelly 2.0.0 (`_ops/lif/` and `_ops/plif/reference.py`), on the CPU.",
    attributes=(
        *THRESHOLD_ATTRIBUTES,
        Attribute("tau", "float", "membrane time constant in time steps (LIFNode)", (1.0, LARGEST), required=False),
        Attribute("decay", "float", "1 / tau as ParametricLIFNode trains it: sigmoid(w)", (0.0, 1.0), required=False),
        Attribute("decay_input", "int", "1 where the input leaks as well, 0 where it does not", (0, 1), 1, required=False),
    ),
    one_of=("tau", "decay"),
    inputs=FLOAT_INPUTS,
    outputs=FLOAT_OUTPUTS,
    body=_body,
    reference=lif,
    native=True,
    classes=(
        float_class(f"{_NEURONS}.LIFNode", _time_constant),
        float_class(f"{_NEURONS}.ParametricLIFNode", _trained_decay),
        # What they do otherwise is for training.
        float_class(f"{_NEURONS}.OTTTLIFNode", _time_constant),
        float_class(f"{_NEURONS}.SLTTLIFNode", _time_constant),
    ),
    on_loihi=_on_loihi,
)
