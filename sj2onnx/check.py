"""Compare an exported network with SpikingJelly, layer by layer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

from custom_ops import DOMAIN
from custom_ops.sessions.runtime import session
from custom_ops.sessions.stream import state_infos

from .errors import ExportError, one_line
from .preparing import copied, unwrapped
from .reference import Reference, Run

__all__ = ["LayerCheck", "agrees", "check", "compared"]

_ROUNDING = 1e-5
"""How far apart the sums of two float32 implementations may be, relative to the largest."""
_TOLERANCE = 1e-4
"""The same for a network's output, which may be a sum of many sums."""


@dataclass(frozen=True)
class LayerCheck:
    """What :func:`check` found in one layer.

    Args:
        name: the layer's module path, or the name of an output.
        values: how many spikes or silences were compared.
        mismatches: how many of them differ.
        rate: the mean of the layer's output in SpikingJelly.
        unexplained: how many of them rounding does not explain: the sum at the neuron was not close to its threshold.
        problem: what is wrong other than single values; empty where nothing is.
    """

    name: str
    values: int
    mismatches: int
    rate: float
    unexplained: int = 0
    problem: str = ""

    @property
    def wrong(self) -> bool:
        """Whether file and network differ by more than rounding."""
        return bool(self.unexplained or self.problem)


def check(net: nn.Module, model: onnx.ModelProto, x: torch.Tensor) -> list[LayerCheck]:
    """Run ``net`` and its export on ``x`` and compare every spiking layer, each fed the same input in both, and every output.

    One spike that differs changes everything behind it. To judge each layer for itself, SpikingJelly's layers are fed the
    spikes that onnxruntime found in the layers before them. Both start from reset states; ``net`` is left as it is.

    Args:
        net: the network as it was exported.
        model: what :func:`sj2onnx.export` made of it, without ``stateful``.
        x: input, as the network takes it.

    Returns:
        One entry per spiking layer, in the order in which they run, and one for each output, where values within 1e-4 of each
        other relative to the largest count as equal, since they are sums as well.
    """
    return compared(Reference(copied(unwrapped(net))), Exported(model), x)


class Exported:
    """An exported model that shows what its spiking layers give, run by a stock onnxruntime's means: its own function bodies.

    Args:
        model: the file.
        weights: the content of the initializers that ``model`` only names.
    """

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        self._layers: list[tuple[str, str]] = []
        described = json.loads({entry.key: entry.value for entry in model.metadata_props}["sj2lava.layers"])
        spiking = {(layer["name"], layer["operator"]) for layer in described}
        self.operators = {layer["name"]: layer["operator"] for layer in described}
        self._states = state_infos(model)
        carried = {state.output for state in self._states}
        self.outputs = [value.name for value in model.graph.output if value.name not in self.operators.keys() | carried]
        own = len(model.graph.output)
        shown = {value.name for value in model.graph.output}
        for node in model.graph.node:
            path = node.name.rpartition("/")[0]
            if node.domain == DOMAIN and (path, node.op_type) in spiking:
                self._layers.append((path, node.output[0]))
                if node.output[0] not in shown:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # For few runs: no second copy of the weights in another order, and none of those that are not in the model.
        options.add_session_config_entry("session.disable_prepacking", "1")
        self._weights = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in (weights or {}).items()}
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session = _opened(model, options) if self._weights else session(model, native=False, sess_options=options)
        finally:
            del model.graph.output[own:]

    def run(self, x: torch.Tensor, samples: int = 1) -> tuple[dict[str, npt.NDArray[Any]], dict[str, list[npt.NDArray[Any]]]]:
        """The outputs by name, and what each spiking layer gave, ``[T, N, *]`` for each of its nodes, by module path.

        Args:
            x: the input.
            samples: how many samples it has, where the file takes states: they are as after a reset.
        """
        wanted = [*self.outputs, *(name for _, name in self._layers)]
        found = self._session.run(
            wanted, {"input": x.cpu().numpy(), **{state.input: state.first(samples) for state in self._states}}
        )
        layers: dict[str, list[npt.NDArray[Any]]] = {}
        for (path, _), value in zip(self._layers, found[len(self.outputs) :], strict=True):
            layers.setdefault(path, []).append(value)
        return dict(zip(self.outputs, found, strict=False)), layers


def _opened(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session for a draft, whose weights are outside of it, as no file in memory may have them."""
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a model it refuses
        raise ExportError(f"onnxruntime refuses the model ({one_line(error)[:200]}): export a part of the network.") from error


def agrees(run: Run, exported: Exported, x: torch.Tensor, samples: int = 1) -> bool:
    """Whether the file gives just what ``run``, of the network on ``x``, gave: every spike, and every output but for rounding.

    What differs may still be rounding, which :func:`compared` tells.
    """
    outputs, layers = exported.run(x, samples)
    if layers.keys() - run.layers.keys():
        return False
    for path, parts in layers.items():
        ours = run.layers[path]
        if sum(map(len, ours)) != sum(map(len, parts)) or len({tuple(p.shape[1:]) for side in (parts, ours) for p in side}) != 1:
            return False
        steps, others = ([step for part in side for step in part] for side in (ours, parts))
        if not all(np.array_equal(step.numpy(), other) for step, other in zip(steps, others, strict=True)):
            return False
    return all(
        name in outputs and outputs[name].shape == value.shape and not _far(outputs[name], value.numpy()).any()
        for name, value in run.outputs.items()
    )


def compared(reference: Reference, exported: Exported, x: torch.Tensor, samples: int = 1) -> list[LayerCheck]:
    """:func:`check`, with both sides made ready before; ``samples`` as :meth:`Exported.run` takes it."""
    outputs, layers = exported.run(x, samples)
    comparisons = {path: _Layer(path, parts) for path, parts in layers.items()}
    order: list[_Layer] = []

    def hook(path: str) -> Callable[..., Any]:
        comparison = comparisons.get(path)
        if comparison is None:
            return lambda module, inputs, output: None

        def compare(module: nn.Module, inputs: Any, output: Any) -> Any:
            if comparison not in order:
                order.append(comparison)
            return comparison(module, inputs, output)

        return compare

    def keep(path: str) -> Callable[..., None]:
        return comparisons[path].begins if path in comparisons else lambda module, inputs: None

    expected = reference.run(x, hook, keep).outputs
    found = [layer.result() for layer in order]
    missing = [path for path in comparisons if comparisons[path] not in order]
    found += [LayerCheck(path, 0, 0, 0.0, problem="is in the file, but does not run in the network") for path in missing]

    def again() -> Mapping[str, torch.Tensor]:
        return reference.run(_shaken(x), lambda path: comparisons[path].replay if path in comparisons else _nothing).outputs

    for name, theirs in expected.items():
        found.append(_output(name, theirs.cpu().numpy(), outputs.get(name), again))
    return found


def _nothing(module: nn.Module, inputs: Any, output: Any) -> None:
    return None


def _shaken(x: torch.Tensor) -> torch.Tensor:
    """``x``, as far off as rounding might be."""
    if not x.is_floating_point():
        return x
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype) - 0.5
    return x + noise * (2 * _ROUNDING * float(x.abs().max().clamp(min=1e-3)))


class _Layer:
    """One spiking layer: compares each of its calls with what the file gave, and gives on what the file gave."""

    def __init__(self, path: str, parts: list[npt.NDArray[Any]]) -> None:
        self.path = path
        self._file = None if any(part.shape[1:] != parts[0].shape[1:] for part in parts) else np.concatenate(parts)
        self._parts = parts
        self._next = 0
        self._again = 0
        self._values = self._mismatches = self._unexplained = 0
        self._sum = 0.0
        self._problem = ""
        self._diverged: torch.Tensor | None = None
        self._before: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def result(self) -> LayerCheck:
        """What was found in all calls."""
        rate = self._sum / max(self._values, 1)
        problem = self._problem
        if not problem and self._file is not None and self._next != len(self._file):
            problem = f"ran {self._next} time steps in SpikingJelly and {len(self._file)} in the file"
        return LayerCheck(self.path, self._values, self._mismatches, rate, self._unexplained, problem)

    def replay(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        """What the file gave, in another run."""
        if self._problem or self._file is None:
            return None
        steps = 1 if getattr(module, "step_mode", "m") == "s" else len(output)
        theirs = torch.from_numpy(self._file[self._again : self._again + steps])
        self._again = (self._again + steps) % len(self._file)
        return theirs.reshape(output.shape).to(output)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or self._problem:
            return None
        single = getattr(module, "step_mode", "m") == "s"
        ours = output.unsqueeze(0) if single else output
        if self._file is None:
            self._problem = "has results of several shapes in the file"
            return None
        theirs = torch.from_numpy(self._file[self._next : self._next + len(ours)])
        if tuple(theirs.shape) != tuple(ours.shape):
            self._problem = f"gives {list(ours.shape)} in SpikingJelly and {list(theirs.shape)} in the file"
            return None
        self._next += len(ours)
        theirs = theirs.to(ours)
        differ = theirs != ours
        if not bool(torch.isin(ours, torch.tensor([0.0, 1.0])).all()):
            # Graded results are sums as well.
            differ &= ~torch.isclose(theirs, ours, rtol=_ROUNDING, atol=_ROUNDING * float(ours.abs().max()), equal_nan=True)
        self._values += ours.numel()
        self._sum += float(ours.float().sum())
        if bool(differ.any()):
            self._mismatches += int(differ.sum())
            if self._diverged is not None:
                differ &= ~self._diverged
            if bool(differ.any()):
                self._unexplained += self._beyond_rounding(module, inputs, ours, differ)
                diverged = differ.any(0)
                self._diverged = diverged if self._diverged is None else self._diverged | diverged
        return theirs.squeeze(0) if single else theirs

    def _beyond_rounding(self, module: nn.Module, inputs: Any, ours: torch.Tensor, differ: torch.Tensor) -> int:
        """How many neurons have a first difference where a sum that is off by rounding makes none."""
        x = inputs[0]
        if not x.is_floating_point():
            return int(differ.any(0).sum())
        step = _ROUNDING * float(x.abs().max().clamp(min=1.0))
        first = _first(differ)
        explained = torch.zeros_like(first, dtype=torch.bool)
        after = _states(module)
        for shift in (step, -step, 10 * step, -10 * step):
            _set_states(module, self._before)
            y = type(module).forward(module, x + shift)
            changed = (y.unsqueeze(0) if y.dim() < ours.dim() else y) != ours
            explained |= _first(changed) <= first
        _set_states(module, after)
        return int((differ.any(0) & ~explained).sum())

    def begins(self, module: nn.Module, inputs: Any) -> None:
        """Keep what the module starts a call with."""
        self._before = _states(module)


def _first(differ: torch.Tensor) -> torch.Tensor:
    """The first time step at which each neuron differs; one behind the last where none does."""
    steps = torch.arange(len(differ)).reshape(-1, *[1] * (differ.dim() - 1))
    return torch.where(differ, steps, len(differ)).amin(0)


def _states(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    places = [part.__dict__["_memories"] for part in module.modules() if "_memories" in part.__dict__]
    if "v_seq" in module.__dict__:
        places.append(module.__dict__)
    return [(place, {"v_seq": place["v_seq"]} if place is module.__dict__ else dict(place)) for place in places]


def _set_states(module: nn.Module, states: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for place, values in states:
        place.update(values)


def _output(
    name: str, theirs: npt.NDArray[Any], found: npt.NDArray[Any] | None, again: Callable[[], Mapping[str, torch.Tensor]]
) -> LayerCheck:
    """Compare one output, with what a run gives whose sums are off by rounding where they differ."""
    if found is None or found.shape != theirs.shape:
        shape = "none" if found is None else str(list(found.shape))
        return LayerCheck(name, theirs.size, 0, 0.0, problem=f"is {list(theirs.shape)} in SpikingJelly and {shape} in the file")
    far = _far(found, theirs)
    unexplained = int(far.sum())
    if unexplained:
        unstable = _far(again()[name].cpu().numpy(), theirs)
        if unstable.sum() * 3 >= unexplained and unstable.mean() < 0.05:
            unexplained = 0
    mean = float(theirs.mean()) if theirs.size else 0.0
    return LayerCheck(name, theirs.size, int(far.sum()), mean, unexplained)


def _far(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if not np.issubdtype(other.dtype, np.floating):
        return np.asarray(one != other)
    finite = other[np.isfinite(other)]
    largest = float(np.abs(finite).max()) if finite.size else 1.0
    return np.asarray(~np.isclose(one, other, rtol=0, atol=_TOLERANCE * max(largest, 1.0), equal_nan=True))
