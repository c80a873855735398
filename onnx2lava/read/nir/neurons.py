"""What nodes of NIR with neurons mean in steps of time: a table by their types."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from custom_ops.loihi import DECAY_UNIT

from ...network import Array, CubaNeuron, FloatNeuron
from ..call import Call
from .content import Node
from .maps import array
from .producers import Producer

__all__ = ["dynamics_of", "is_neuron"]

_ROUNDING = 2.0**-50
"""Shares of a state below this are rounded off anyway: nothing leaks."""


@dataclass(frozen=True)
class Dynamics:
    """A neuron counted from its reset potential.

    Args:
        neuron: what it is in steps of time; Loihi's where the graph says so.
        gain: what its input is multiplied by, one number or one for each neuron.
        bias: what its voltage takes at every step, likewise.
    """

    neuron: FloatNeuron | CubaNeuron
    gain: Array
    bias: Array


def is_neuron(type: str) -> bool:
    """Whether nodes of a type fire."""
    return type in _NEURONS


def dynamics_of(call: Call, node: Node, how: Producer, dt: float) -> Dynamics:
    """What a node means.

    Raises:
        ConversionError: it is nothing for Loihi.
    """
    return _exact(node, dt) or _NEURONS[node.type](call, node, how, dt)


def _exact(node: Node, dt: float) -> Dynamics | None:
    """What ``to_nir`` noted of the neuron, if the node's numbers still say it: equations alone round decays, and say neither
    that numbers are whole nor when a neuron fires at its threshold."""
    noted = node.fields.get("metadata")
    if not isinstance(noted, dict) or noted.get("kind") not in ("loihi", "real"):
        return None
    try:
        numbers = {name: np.asarray(noted[name], np.float64) for name in ("v_decay", "i_decay", "v_threshold")}
        bias = np.asarray(noted.get("bias", 0.0), np.float64)
        unit = DECAY_UNIT if noted["kind"] == "loihi" else 1
        with np.errstate(divide="ignore", invalid="ignore"):
            steps, current = (unit / numbers[name] for name in ("v_decay", "i_decay"))
            said: dict[str, Any] = {"v_threshold": numbers["v_threshold"], "v_reset": 0.0, "v_leak": bias * steps}
            said |= {"r": steps, "tau": steps * dt, "tau_mem": steps * dt, "tau_syn": current * dt, "w_in": current}
            if node.type == "IF":
                said["r"] = 1 / dt
            for name, value in said.items():
                given = node.fields.get(name)
                if given is None:
                    continue
                close = np.isclose(np.asarray(given, np.float64), value, 1e-5, 1e-12)
                if not (close | ~np.isfinite(value)).all():
                    return None
        if noted["kind"] == "real":
            v_decay, i_decay, threshold = (numbers[name].item() for name in ("v_decay", "i_decay", "v_threshold"))
            strict = bool(np.asarray(noted.get("strict", 0)).item())
            return Dynamics(FloatNeuron(v_decay, threshold, i_decay, strict), np.ones(1), bias)
        whole = {name: value.astype(np.int64) if value.ndim else int(value) for name, value in numbers.items()}
        return Dynamics(CubaNeuron(whole["i_decay"], whole["v_decay"], whole["v_threshold"]), np.ones(1), bias)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _if(call: Call, node: Node, how: Producer, dt: float) -> Dynamics:
    gain = array(call, node, "r") * (dt if how.integrates else 1.0)
    return _counted_from_reset(call, node, how, 0.0, 1.0, gain, np.zeros(1))


def _lif(call: Call, node: Node, how: Producer, dt: float) -> Dynamics:
    share = _share(call, node, "tau", how, dt)
    return _counted_from_reset(call, node, how, share, 1.0, array(call, node, "r") * share, share * array(call, node, "v_leak"))


def _cuba_lif(call: Call, node: Node, how: Producer, dt: float) -> Dynamics:
    current, voltage = _share(call, node, "tau_syn", how, dt), _share(call, node, "tau_mem", how, dt)
    gain = array(call, node, "w_in", 1.0) * (1.0 if how.jumps else current) * (array(call, node, "r") * voltage)
    leak = voltage * array(call, node, "v_leak")
    return _counted_from_reset(call, node, how, _leaking(voltage), _leaking(current), gain, leak)


def _threshold(call: Call, node: Node, how: Producer, dt: float) -> Dynamics:
    """A neuron that forgets everything from step to step; always strict, as NIR says."""
    threshold = _alike(call, array(call, node, "threshold"), "threshold")
    if not threshold > 0:
        call.refuse(f"its threshold is {threshold:g}, so that it fires without input", "use a threshold above 0")
    return Dynamics(FloatNeuron(1.0, threshold, strict=True), np.ones(1), np.zeros(1))


def _counted_from_reset(
    call: Call, node: Node, how: Producer, v_decay: float, i_decay: float, gain: Array, leak: Array
) -> Dynamics:
    """Args: ``leak``: what the voltage takes at every step, where it is counted from 0."""
    resets = array(call, node, "v_reset", 0.0)
    thresholds = array(call, node, "v_threshold") - resets
    if not (thresholds > 0).all():
        call.refuse("its threshold is not above its reset, so that it fires without input", "use a threshold above v_reset")
    bias = leak - v_decay * resets
    threshold = float(thresholds.flat[0])
    if (thresholds != threshold).any():
        # Everything that is compared with a threshold can be counted in units of it.
        gain, bias, threshold = gain / thresholds, bias / thresholds, 1.0
    if how.title == "Norse" and bias.any():
        call.refuse("its v_leak is not its v_reset, and Norse starts from v_leak", "use the same for both")
    return Dynamics(FloatNeuron(v_decay, threshold, i_decay, how.strict), gain, bias)


def _share(call: Call, node: Node, name: str, how: Producer, dt: float) -> float:
    """The share of a state that a step loses."""
    tau = _alike(call, array(call, node, name), name)
    share = how.share(tau, dt) if tau > 0 else 0.0
    if not 0 < share <= 1 + 1e-9:
        call.refuse(
            f"its {name} is {tau:g} s, which {how.title} does not run in steps of {dt:g} s", "give the dt of the simulation"
        )
    return min(share, 1.0)


def _leaking(share: float) -> float:
    return 0.0 if share < _ROUNDING else share


def _alike(call: Call, values: Array, name: str) -> float:
    """The one number that all of them are."""
    first = float(values.flat[0])
    if (np.abs(values - first) > 1e-9 * abs(first)).any():
        call.refuse(f"its {name} differs from neuron to neuron, of which a layer has one", "use one layer for each")
    return first


_NEURONS: Mapping[str, Callable[[Call, Node, Producer, float], Dynamics]] = {
    "CubaLIF": _cuba_lif,
    "IF": _if,
    "LIF": _lif,
    "Threshold": _threshold,
}
"""A new neuron is a line here."""
