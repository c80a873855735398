"""Random NIR graphs, and what their equations say, step by step: nothing here is shared with the reader."""

from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

__all__ = ["DT", "Graph", "graphs"]

DT = 1e-4
_NEURONS = ("IF", "LIF", "CubaLIF", "Threshold")


@dataclass
class Graph:
    """Nodes in the order in which they run; an edge to one that is not behind its source brings the step before."""

    input_shape: tuple[int, ...]
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    strict: bool = False

    def nir(self) -> Any:
        """As NIR's own class; its shapes are checked by it."""
        return nir.NIRGraph(nodes=dict(self.nodes), edges=list(self.edges))

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The spikes of each neuron node, ``[T, N, *]``, in float64."""
        order = {name: place for place, name in enumerate(self.nodes)}
        history: dict[str, list[torch.Tensor]] = {name: [] for name in self.nodes}
        states: dict[str, dict[str, torch.Tensor | float]] = {name: {"u": 0.0} for name in self.nodes}
        for step in torch.from_numpy(x.astype(np.float64)):
            for name, node in self.nodes.items():
                if isinstance(node, nir.Input):
                    history[name].append(step)
                    continue
                total: Any = 0.0
                for source, target in self.edges:
                    if (target == name and order[source] < order[name]) or (target == name and len(history[source])):
                        total = total + history[source][-1]
                if not isinstance(total, torch.Tensor):
                    total = torch.zeros(x.shape[1], *self.shapes[name], dtype=torch.float64)
                history[name].append(self._step(node, total, states[name], history[name]))
        fire = [name for name, node in self.nodes.items() if type(node).__name__ in _NEURONS]
        return {name: torch.stack(history[name]).numpy() for name in fire}

    def _step(self, node: Any, x: torch.Tensor, state: dict[str, Any], past: list[torch.Tensor]) -> torch.Tensor:
        kind = type(node).__name__
        number = {
            name: torch.from_numpy(np.asarray(value, np.float64))
            for name, value in vars(node).items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }
        if kind in ("Linear", "Affine"):
            return x @ number["weight"].T + number.get("bias", 0.0)
        if kind == "Conv2d":
            return F.conv2d(x, number["weight"], number["bias"], node.stride, node.padding, node.dilation, node.groups)
        if kind == "Conv1d":
            return F.conv1d(x, number["weight"], number["bias"], node.stride, node.padding, node.dilation, node.groups)
        if kind in ("SumPool2d", "AvgPool2d"):
            mean = F.avg_pool2d(x, tuple(node.kernel_size), tuple(node.stride), tuple(node.padding))
            return mean * float(np.prod(node.kernel_size)) if kind == "SumPool2d" else mean
        if kind == "Flatten":
            return x.flatten(node.start_dim + 1, node.end_dim)
        if kind == "Scale":
            return x * number["scale"]
        if kind == "Delay":
            state.setdefault("line", []).append(x)
            late, line, delayed = (number["delay"] / DT).round().int(), state["line"], torch.zeros_like(x)
            for steps in range(min(len(line), int(late.max()) + 1)):
                delayed = torch.where(late == steps, line[-1 - steps], delayed)
            return delayed
        if kind == "Threshold":
            return (x > number["threshold"]).double()
        if kind == "Output":
            return x
        return self._fire(kind, number, x, state)

    def _fire(self, kind: str, p: dict[str, torch.Tensor], x: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
        """Euler's steps of NIR's equations, the current first, from the reset potential."""
        u, v = state["u"], state.get("v", p["v_reset"])
        if kind == "IF":
            v = v + DT * p["r"] * x
        elif kind == "LIF":
            v = v + DT / p["tau"] * ((p["v_leak"] - v) + p["r"] * x)
        else:
            u = u + DT / p["tau_syn"] * (p["w_in"] * x - u)
            v = v + DT / p["tau_mem"] * ((p["v_leak"] - v) + p["r"] * u)
        fired = v > p["v_threshold"] if self.strict else v >= p["v_threshold"]
        state["u"], state["v"] = u, torch.where(fired, p["v_reset"], v)
        return fired.double()


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Odd multiples of 1/64, more above zero than below: their sums are exact, and hardly ever a threshold itself."""
    return ((2 * rng.integers(-10, 24, shape) + 1) / 64).astype(np.float32)


@st.composite
def graphs(draw: st.DrawFn, everything: bool = True) -> Graph:
    """Random graphs of a few layers, with skips and loops.

    Args:
        everything: also what SpikingJelly does not import: Scale, Delay, Threshold, SumPool2d, groups.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["flat", "image", "line"]) if everything else st.sampled_from(["flat", "image"]))
    shape: tuple[int, ...] = {"flat": (6,), "image": (2, 6, 6), "line": (2, 8)}[kind]
    graph = Graph(shape, strict=everything and draw(st.booleans()))
    graph.nodes["input"] = nir.Input(input_type={"input": np.array(shape)})
    graph.shapes["input"] = shape
    last = "input"

    def add(name: str, node: Any, gives: tuple[int, ...]) -> None:
        nonlocal last
        graph.nodes[name], graph.shapes[name] = node, gives
        graph.edges.append((last, name))
        last = name

    for index in range(draw(st.integers(1, 3))):
        given = graph.shapes[last]
        if len(given) > 1 and (index or draw(st.booleans())) and draw(st.booleans()):
            add(
                f"flat{index}",
                nir.Flatten(input_type={"input": np.array(given)}, start_dim=0, end_dim=-1),
                (int(np.prod(given)),),
            )
        if everything and draw(st.integers(0, 3)) == 0:
            given = graph.shapes[last]
            late = rng.integers(0, 3, given) if draw(st.booleans()) else np.full(given, draw(st.integers(0, 2)))
            add(f"delay{index}", nir.Delay(late * DT), given)
        _synapse(draw, rng, graph, add, index, everything)
        if everything and draw(st.integers(0, 3)) == 0:
            given = graph.shapes[last]
            add(f"scale{index}", nir.Scale(np.full(given, draw(st.sampled_from([0.5, 2.0, 0.75])), np.float32)), given)
        given = graph.shapes[last]
        name = f"n{index}"
        add(name, _neuron(draw, given, everything), given)
        if len(given) == 1 and draw(st.integers(0, 2)) == 0:  # a loop
            weight = _weights(rng, given[0], given[0]) / 4
            graph.nodes[f"loop{index}"] = nir.Linear(weight)
            graph.shapes[f"loop{index}"] = given
            graph.edges += [(name, f"loop{index}"), (f"loop{index}", name)]
    same = [
        each for each, node in graph.nodes.items() if type(node).__name__ in _NEURONS and graph.shapes[each] == graph.shapes[last]
    ]
    if len(same) > 1 and draw(st.booleans()):  # a skip: spikes of two layers are added
        given = graph.shapes[last]
        if len(given) == 1:
            add("merged", nir.Linear(_weights(rng, 4, given[0])), (4,))
            graph.edges.append((same[0], "merged"))
            add("merged_n", _neuron(draw, (4,), everything), (4,))
    graph.nodes["output"] = nir.Output(output_type={"output": np.array(graph.shapes[last])})
    graph.shapes["output"] = graph.shapes[last]
    graph.edges.append((last, "output"))
    return graph


def _synapse(draw: Any, rng: np.random.Generator, graph: Graph, add: Any, index: int, everything: bool) -> None:
    given = graph.shapes[next(reversed([name for name in graph.nodes if not name.startswith("loop")]))]
    if len(given) == 1:
        size = draw(st.integers(3, 6))
        weight = _weights(rng, size, given[0])
        biased = draw(st.booleans())
        bias = (rng.integers(-4, 5, size) / 64).astype(np.float32)
        add(f"fc{index}", nir.Affine(weight, bias) if biased else nir.Linear(weight), (size,))
        return
    if len(given) == 2:
        stride, pad = draw(st.integers(1, 2)), draw(st.sampled_from([0, 1, "same"]))
        pad = 1 if pad == 0 and given[1] < 3 else pad
        stride = 1 if pad == "same" else stride
        node = nir.Conv1d(given[1], _weights(rng, 3, given[0], 3), stride, pad, 1, 1, np.zeros(3, np.float32))
        length = given[1] if pad == "same" else (given[1] + 2 * pad - 3) // stride + 1
        add(f"conv{index}", node, (3, length))
        return
    pad, groups = draw(st.integers(0, 1)), draw(st.sampled_from([1, 2])) if everything and not index else 1
    bias = (rng.integers(-4, 5, 4) / 64).astype(np.float32) if draw(st.booleans()) else np.zeros(4, np.float32)
    weight = _weights(rng, 4, given[0] // groups, 3, 3)
    if given[1] + 2 * pad < 3:
        pad = 1
    node = nir.Conv2d((given[1], given[2]), weight, 1, pad, 1, groups, bias)
    side = given[1] + 2 * pad - 2
    if groups > 1:
        # nir infers the channels from the weight alone
        node.input_type = {"input": np.array(given)}
    add(f"conv{index}", node, (4, side, side))
    if side >= 2 and draw(st.booleans()):
        pool = nir.SumPool2d if everything and draw(st.booleans()) else nir.AvgPool2d
        two, none = np.array([2, 2]), np.array([0, 0])
        add(f"pool{index}", pool(kernel_size=two, stride=two, padding=none), (4, side // 2, side // 2))


def _neuron(draw: Any, shape: tuple[int, ...], everything: bool) -> Any:
    """In the forms that SpikingJelly imports; time constants of whole powers of two, so that nothing is rounded."""
    threshold = np.full(shape, draw(st.sampled_from([0.5, 0.75, 1.0])))
    kind = draw(st.sampled_from(["IF", "LIF", "CubaLIF", *(["Threshold"] if everything else [])]))
    if kind == "Threshold":
        return nir.Threshold(threshold)
    if kind == "IF":
        return nir.IF(np.full(shape, 1 / DT), threshold, np.zeros(shape))
    tau = np.full(shape, draw(st.sampled_from([2.0, 4.0])) * DT)
    if kind == "LIF":
        r = np.ones(shape) if draw(st.booleans()) else tau / DT
        reset = np.full(shape, draw(st.sampled_from([0.0, -0.25])))
        return nir.LIF(tau=tau, r=r, v_leak=reset, v_threshold=threshold, v_reset=reset)
    syn = np.full(shape, draw(st.sampled_from([2.0, 4.0])) * DT)
    return nir.CubaLIF(
        tau_syn=syn,
        tau_mem=tau,
        r=tau / DT,
        v_leak=np.zeros(shape),
        v_threshold=threshold,
        v_reset=np.zeros(shape),
        w_in=syn / DT,
    )
