"""Export a SpikingJelly network as one ONNX file that any onnxruntime runs, and compare the two."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.distributions import Distribution

from custom_ops import DOMAIN, inlined
from custom_ops.files.model_file import write_model
from custom_ops.operators import OLDEST_OPSET, OPSET
from custom_ops.operators.definition import with_defaults
from custom_ops.sessions.stream import STATES_KEY, StateInfo

from .axes import Axes, find_axes, other_input, other_size
from .check import Exported, LayerCheck, agrees, compared
from .containers import has_containers, unroll_containers
from .draft import Draft
from .errors import ExportError, UnequalError
from .fixed_steps import fixed_steps
from .integer_block import IntegerBlock, use_integers
from .node_call import NodeCall
from .outputs import flattened
from .own_loops import replace_own_loops
from .passes import clean
from .passes.random_numbers import drawn_in
from .passes.spiking_outputs import expose_spikes
from .passes.states import StatesPass
from .preparing import as_it_was, copied, unwrapped
from .randomness import drawing_module, hidden_draw
from .reference import Reference, Run
from .refusals import Trail, cannot_be_traced, described
from .rolling import NotRegularError
from .sizes import Sizes
from .stateful import carry_states, network_step_mode, node_calls, replace_neurons, states_entry
from .torch_export import to_onnx_ir
from .whole_sequence import see_all_steps

__all__ = ["export"]

_IR_VERSION = 10  # the newest that onnxruntime 1.20 reads


def export(
    net: nn.Module,
    example: torch.Tensor,
    path: str | os.PathLike[str] | None = None,
    *,
    outputs: Literal["last", "all"] = "last",
    stateful: bool = False,
    check: bool = True,
    opset: int = OPSET,
    inline: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> onnx.ModelProto:
    """Export ``net`` as an ONNX model whose neurons are operators of the domain ``snn``, and compare it with ``net``.

    Each operator comes with its model-local function, so that the file runs on a stock onnxruntime ≥ 1.20. The graph input
    is ``input``, the output ``output``; of several outputs the others are ``output.1`` and so on, or are named by their keys.
    The axes of the input are named T and N where they are time and samples, usually ``[T, N, *]``. N is free, and T too unless
    the network fixes it, by a loop over time or by parameters of its own for each step; the file then has the T of the
    example. A network that takes images ``[N, *]`` and repeats them over time itself has no T in its input, and says so in the
    metadata (``sj2lava.input_kind``). ``net`` is left as it is.

    With ``stateful``, each state of a neuron is an input ``<module path>.<state>`` and an output ``<module path>.<state>.next``,
    ``[N, *]``, so that a long recording runs in chunks; the metadata entry ``sj2lava.states`` lists them with the values that
    they start with, and :class:`custom_ops.Stream` carries them from call to call. A network in step mode ``s`` is exported
    so, as one step without time axis; :func:`custom_ops.over_time` makes a network over time of it.

    Args:
        net: a network in step mode ``m``; or in step mode ``s`` with a loop over time in its forward, or with ``stateful``.
            IFNode, LIFNode, ParametricLIFNode and the neurons of BlockContainers become operators of this project; every other
            stateful module becomes a function that is named after its class and traced from its own single-step function.
        example: an input as ``net`` takes it, such as ``[T, N, *]``; ``[N, *]`` in step mode ``s`` with ``stateful``.
        path: where to write the model; None writes nothing.
        outputs: ``"all"`` adds one output per spiking layer, named by its module path.
        stateful: whether states are inputs and outputs.
        check: whether to compare the file with ``net`` before it is written: every output and every spiking layer, on the
            example, on another number of samples and, where T is free, on another number of steps. False for networks too
            large to run twice.
        opset: version of the standard operators, 18 … 21.
        inline: whether the file has no functions, for runtimes that know none (:func:`custom_ops.inlined`).
        progress: is told what is being done, for exports that take a while.

    Returns:
        The model, checked by ONNX's checker.

    Raises:
        ExportError: the network cannot be exported; the message names the module path, the class and the reason.
        UnequalError: the file would give something else than the network; no file is written.
    """
    if not OPSET >= opset >= OLDEST_OPSET:
        raise ExportError(f"Opset {opset} is not supported: choose one from {OLDEST_OPSET} to {OPSET}.")
    if outputs not in ("last", "all"):
        raise ExportError(f"outputs={outputs!r} is not known: choose 'last' or 'all'.")
    if not isinstance(net, nn.Module):
        raise ExportError(
            f"The network is a {type(net).__name__}, not a torch.nn.Module: call export(net, example, path) in this order."
        )
    progress("running the network")
    base = copied(unwrapped(net))
    if not stateful and isinstance(example, torch.Tensor):
        replace_own_loops(base, example.detach().cpu())
    task = _Task(base, _checked_example(example, base, stateful), outputs, stateful, opset)
    proto = task.export(check, progress)
    progress("writing the file")
    proto = inlined(proto) if inline else proto
    if path is not None:
        write_model(proto, path)
    return proto


def _checked_example(example: torch.Tensor, net: nn.Module, stateful: bool) -> torch.Tensor:
    fewest = 3 if stateful and network_step_mode(net) == "m" else 2
    if not isinstance(example, torch.Tensor) or example.dim() < fewest or not example.numel() or example.is_complex():
        axes = "[T, N, *] with at least one more axis" if fewest == 3 else "[T, N, *], or [N, *] for a network without time axis"
        raise ExportError(f"The example must be a tensor of numbers, none of whose axes is empty, of the shape {axes}.")
    return example.detach().cpu()


class _Task:
    """One export: what is known of the network, and the ways in which to write it down.

    Args:
        net: a copy of the network that is left alone.
        example: an input that it takes.
        outputs: as :func:`export` takes it.
        stateful: likewise.
        opset: likewise.
    """

    def __init__(self, net: nn.Module, example: torch.Tensor, outputs: str, stateful: bool, opset: int) -> None:
        self.net = net
        self.example = example
        self.every_layer = outputs == "all"
        self.stateful = stateful
        self.opset = opset
        self.reference = Reference(net)

    def export(self, check: bool, progress: Callable[[str], None]) -> onnx.ModelProto:
        """The model, of the first way that gives one equal to the network."""
        if self.stateful:
            return self._one_step_or_chunk(check, progress)
        try:
            first = self._first_run(check)
        except ExportError:
            fixed_steps(self.net, self.example.shape[0])  # may have a better reason
            raise
        self._require_time(first)
        axes = find_axes(self.reference, self.example, first)
        steps = None if axes.time is None else fixed_steps(self.net, self.example.shape[axes.time])
        if steps is not None:
            axes = replace(axes, free_time=False)
        fixed = replace(axes, free_time=False)
        free = [axes] if axes.free_time and axes.time is not None else []
        if first.has_loops and not has_containers(self.net):
            ways = [*((way, True) for way in [*free, fixed]), (fixed, False)]
        elif first.has_loops:  # which mostly are the containers' own, and gone by then
            ways = [(way, roll) for way in [*free, fixed] for roll in (False, True)]
        else:
            ways = [(way, False) for way in [*free, fixed]]
        while True:
            way = ways.pop(0)
            try:
                progress("tracing the network")
                draft, apart = self._written(*way, first, progress)
                # Without a check there is one guess: whether a loop's sum is divided by its number of steps or by a constant.
                guessed = way[1] and way[0].free_time
                progress("comparing the file with the network")
                self._compare(draft, way[0], first, apart, check, guessed)
                return draft.whole()
            except (ExportError, NotRegularError) as error:
                if isinstance(error, NotRegularError):  # which a loop is whether T is free or not
                    ways = [each for each in ways if not each[1]]
                if not ways:
                    raise

    def _first_run(self, check: bool) -> Run:
        """What the network gives for the example.

        Args:
            check: whether to run it once more, and see that it gives the same.

        Raises:
            ExportError: it does not run, or draws random numbers where no graph shows them, or keeps what is not reset.
        """
        run = self.reference.run(self.example, keep=True)
        if run.draws is not None:
            raise _draws(self.net, run.draws)
        drawn = hidden_draw(self.reference, self.example, run) if check else None
        if drawn is not None:
            raise ExportError(
                f"{described(self.net, drawn)} gives something else in each run on the same input, by random numbers, the time "
                "or a state that functional.reset_net does not reset, and a file would have what one run gave: leave it out, or "
                "keep the state by register_memory of a MemoryModule."
            )
        return run

    def _require_time(self, run: Run) -> None:
        """Refuse a network in single-step mode that does one step: it is a network without time."""
        paths = Counter(call.path for call in run.calls)
        once = any(call.single_step and paths[call.path] == 1 for call in run.calls)
        if once and not all(call.single_step for call in run.calls):
            network_step_mode(self.net)  # refuses a network whose neurons are in different modes
        if run.calls and all(call.single_step for call in run.calls) and max(paths.values()) == 1:
            path = run.calls[0].path
            raise ExportError(
                f"The module {path!r} ({type(self.net.get_submodule(path)).__name__}) works in step mode 's', which has no time "
                "axis to export: set the network to step mode 'm' first (functional.set_step_mode(net, 'm')), or export one step "
                "with its states (stateful=True)."
            )

    def _one_step_or_chunk(self, check: bool, progress: Callable[[str], None]) -> onnx.ModelProto:
        step_mode = network_step_mode(self.net)
        axes = Axes(0, 1) if step_mode == "m" else Axes(None, 0)
        progress("tracing the network")
        first = self._first_run(check)
        if step_mode == "m":
            axes = replace(axes, free_time=fixed_steps(self.net, self.example.shape[0]) is None)
        draft, apart = self._written(axes, False, first, progress)
        progress("comparing the file with the network")
        self._compare(draft, axes, first, apart, check)
        return draft.whole()

    def _written(self, axes: Axes, roll: bool, first: Run, progress: Callable[[str], None]) -> tuple[Draft, list[Sizes]]:
        """The model with these axes free, its loops over time rolled up or not; and sizes that the network may treat apart."""
        ready = copied(self.net)
        use_integers(ready)
        unroll_containers(ready)
        see_all_steps(ready, self.stateful)
        sample = self._sampler(axes)
        trail = Trail(ready)

        def run() -> None:
            with as_it_was(ready), torch.no_grad():
                ready(sample(2))

        replace_neurons(ready, run, self.opset)
        calls = node_calls(ready)
        states = carry_states(ready, sample) if self.stateful else []
        apart: list[Sizes] = []
        model = self._traced(ready, sample, axes, roll, states, first, trail, apart)
        progress("tidying the graph")
        drawn = drawn_in(model)
        if drawn is not None:
            raise _draws(ready, drawn)
        weights = {path: m.weight.numpy() for path, m in ready.named_modules() if isinstance(m, IntegerBlock) and m.spikes}
        spelled = _states_pass(calls)
        # The weights of integer blocks are new; all other initialisers keep the names that the network gives them.
        clean(model, spelled, weights, {*ready.state_dict(), *(f"{path}.weight" for path in weights)})
        _name(model.graph, [*_names(states)[0], *first.outputs, *_names(states)[1]])
        spiking = {call.path: call for call in calls if call.spiking}
        layers = expose_spikes(model, {path: call.operator for path, call in spiking.items()}, every_layer=self.every_layer)
        self._describe(model, layers, spiking, axes, states, first)
        draft = Draft(model)
        _attach_functions(draft.proto, calls, spelled.stateful, self.opset)
        progress("checking the graph")
        try:
            draft.check()
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            raise ExportError(
                f"The network ({type(self.net).__name__}) has a layer whose result has another size in ONNX than in torch "
                "(pooling with ceil_mode=True and padding, mostly): use ceil_mode=False, or other sizes."
            ) from None
        return draft, apart

    def _sampler(self, axes: Axes) -> Callable[[int], torch.Tensor]:
        """Makes inputs like the example, with a number of samples to be given."""
        x = self.example
        if axes.time is not None and axes.free_time and x.shape[axes.time] == 1:
            x = x.repeat_interleave(2, axes.time)
        batch = axes.batch
        if batch is None:
            return lambda samples: x
        return lambda samples: x.index_select(batch, torch.arange(samples) % x.shape[batch])

    def _traced(
        self,
        net: nn.Module,
        sample: Callable[[int], torch.Tensor],
        axes: Axes,
        roll: bool,
        states: Sequence[StateInfo],
        first: Run,
        trail: Trail,
        apart: list[Sizes],
    ) -> ir.Model:
        """``net`` as torch's exporter sees it, with the free axes as symbols."""
        samples = 2 if axes.batch is None else max(self.example.shape[axes.batch], 2)
        batch = torch.export.Dim("N", min=1)
        free: dict[int, Any] = {} if axes.batch is None else {axes.batch: batch}
        if axes.time is not None and axes.free_time:
            free[axes.time] = torch.export.Dim("T", min=1)
        inputs: tuple[Any, ...] = (sample(samples),)
        rolled: tuple[Any, ...] | None = None
        if roll:  # Python's loop itself runs for one number of steps.
            rolled, free = (free,), {axis: size for axis, size in free.items() if axis == axes.batch}
        dynamic: tuple[Any, ...] = (free,)
        if states:
            inputs += ([torch.zeros(samples, *state.shape, dtype=getattr(torch, state.type)) for state in states],)
            dynamic += ([{0: batch} for _ in states],)
        names = [*_names(states)[0], *first.outputs, *_names(states)[1]]
        forward = net.forward

        def once(*given: Any) -> tuple[torch.Tensor, ...]:
            # Whatever a forward pass leaves in the attributes of the network would count as a result.
            with as_it_was(net, first.changed), trail, _unvalidated():
                results = forward(*given)
                y, *after = results if states else (results,)
                return (*flattened(y).values(), *after)

        # torch reads the names of the arguments.
        net.forward = (lambda x, states: once(x, states)) if states else (lambda x: once(x))
        try:
            model = to_onnx_ir(net, inputs, dynamic, self.opset, names, rolled, apart=apart)
        except NotRegularError:
            raise
        except Exception as error:  # torch raises whatever the network's own code raised
            raise cannot_be_traced(net, trail.path, error) from None
        finally:
            net.forward = forward
        return model

    def _describe(
        self,
        model: ir.Model,
        layers: Sequence[ir.Node],
        calls: Mapping[str, NodeCall],
        axes: Axes,
        states: Sequence[StateInfo],
        first: Run,
    ) -> None:
        model.ir_version = _IR_VERSION
        model.producer_name, model.producer_version = "sj2onnx", _version("sj2lava")
        model.graph.name = "network"
        model.metadata_props.clear()
        described = [{"name": _path(node), "operator": node.op_type, **calls[_path(node)].described} for node in layers]
        single = self.stateful and axes.time is None
        model.metadata_props.update(
            {
                "sj2lava.versions": json.dumps({name: _version(name) for name in ("sj2lava", "spikingjelly", "torch")}),
                "sj2lava.step_mode": "s" if single else "m",
                "sj2lava.layers": json.dumps(described),
            }
        )
        if axes.time is not None:
            model.metadata_props["sj2lava.time_axis"] = str(axes.time)
        if axes.batch is not None:
            model.metadata_props["sj2lava.batch_axis"] = str(axes.batch)
        if not single and axes.time is None:
            model.metadata_props["sj2lava.input_kind"] = "images"
        if not single and not (axes.free_time and axes.time is not None):
            model.metadata_props["sj2lava.steps"] = str(first.steps if axes.time is None else self.example.shape[axes.time])
        if states:
            model.metadata_props[STATES_KEY] = states_entry(states)

    def _compare(self, draft: Draft, axes: Axes, first: Run, apart: Sequence[Sizes], check: bool, guessed: bool = False) -> None:
        """Refuse a file that gives something else than the network.

        Args:
            draft: the file.
            axes: of its input.
            first: what the network gave for the example.
            apart: sizes that the network may treat apart: they are compared whether the rest is or not.
            check: whether to run both on the example, on other sizes and on one sample; otherwise shapes alone are compared.
            guessed: whether to compare other sizes without ``check`` too.

        Raises:
            ExportError: it does; the message names the first module that differs.
        """
        if axes.batch is not None and self.example.shape[axes.batch] != 1 and (check or self._is_one_apart(draft, axes)):
            apart = [*apart, {"N": 1}]
        if not (check or guessed or apart):
            return
        exported = Exported(draft.proto, draft.weights)
        if check:
            samples = 1 if axes.batch is None else self.example.shape[axes.batch]
            if not agrees(first, exported, self.example, samples):
                self._require_equal(exported, self.example, samples, "the example")
        if axes.batch is None:
            return
        for sizes in apart:
            self._require_equal_for(exported, axes, sizes.get("N", 2), sizes.get("T"), may_fail=True)
        if check or guessed:
            self._require_equal_for(exported, axes, other_size(self.example.shape[axes.batch]), self._other_steps(axes))

    def _other_steps(self, axes: Axes) -> int | None:
        """Another number of steps, nearly as many, so that neurons have time to spike; None where it is fixed."""
        if axes.time is None or not axes.free_time:
            return None
        steps = self.example.shape[axes.time]
        return steps - 1 if steps > 2 else steps + 1

    def _is_one_apart(self, draft: Draft, axes: Axes) -> bool:
        """Whether an output of the network has other axes for one sample than for several."""
        x = other_input(self.example, axes, 1)
        try:
            found = self.reference.sizes(x).outputs
        except ExportError:
            return False  # It takes several only.
        named = {"N": 1} if axes.time is None else {"N": 1, "T": x.shape[axes.time]}
        for value in draft.proto.graph.output:
            dims = [named.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
            if value.name in found and all(dims) and dims != list(found[value.name].shape):
                return True
        return False

    def _require_equal_for(self, exported: Exported, axes: Axes, samples: int, steps: int | None, may_fail: bool = False) -> None:
        """Compare other sizes; ``may_fail`` lets the network refuse them."""
        x = other_input(self.example, axes, samples, steps)
        if may_fail:
            try:
                self.reference.sizes(x)
            except ExportError:
                return
        name = f"{samples} sample{'s' * (samples > 1)}" + (f" and {steps} time steps" if steps is not None else "")
        self._require_equal(exported, x, samples, name, may_fail)

    def _require_equal(self, exported: Exported, x: torch.Tensor, samples: int, name: str, apart: bool = False) -> None:
        found = compared(self.reference, exported, x, samples)
        wrong = next((layer for layer in found if layer.wrong), None)
        if wrong is not None:
            raise self._difference(wrong, found, name, x, apart)

    def _difference(
        self, wrong: LayerCheck, found: Sequence[LayerCheck], where: str, x: torch.Tensor, apart: bool
    ) -> ExportError:
        drawn = drawing_module(self.reference, x)
        if drawn is not None:
            return _draws(self.net, drawn)
        outputs = self.reference.run(x).outputs
        layers = [layer.name for layer in found if layer.name not in outputs]
        if wrong.name in outputs:
            behind = f", behind the module {layers[-1]!r}" if layers else ""
            who = f"The output {wrong.name!r}{behind}"
        else:
            who = described(self.net, wrong.name)
        what = wrong.problem or f"differs from SpikingJelly in {max(wrong.unexplained, 1)} of {wrong.values} values"
        if apart:
            return _treated_apart(f"{who} {what}", where)
        return UnequalError(
            f"{who} {what} on {where}, so no file was written: its forward does something that depends on the values or on the "
            "numbers of steps and samples in a way that a graph cannot say; write this part with torch operations on all steps."
        )


@contextlib.contextmanager
def _unvalidated() -> Iterator[None]:
    """Let distributions take parameters without a look at their values, which a trace has not; the first run had it."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _draws(net: nn.Module, path: str) -> ExportError:
    return ExportError(
        f"{described(net, path)} draws random numbers, so that no two runs of the file would be equal: leave it out, or draw "
        "outside of the network (encode the input first, say) and export what reads the result."
    )


def _treated_apart(what: str, where: str) -> ExportError:
    return UnequalError(
        f"{what} on {where}, so no file was written: the network treats that size apart, by an if on a shape or by squeeze() "
        "without an axis, and a file has one way for all sizes: leave the if out, and name the axis, as in squeeze(-1)."
    )


def _states_pass(calls: Sequence[NodeCall]) -> StatesPass:
    pairs = [(call.path, node) for call in calls for node in (call.node, call.potentials) if node is not None]
    nodes = [node for _, node in pairs]
    return StatesPass(
        {node.name: 1 + len(node.parameters()) for node in nodes},
        {(path, node.name): node.initial for path, node in pairs},
        {
            node.name: [
                (None if node.shapes is None else node.shapes[index], str(dtype).removeprefix("torch."))
                for index, dtype in enumerate(node.dtypes)
            ]
            for node in nodes
        },
    )


def _names(states: Sequence[StateInfo]) -> tuple[list[str], list[str]]:
    """Of the graph's inputs, and of the outputs behind those of the network itself."""
    return ["input", *(state.input for state in states)], [state.output for state in states]


def _name(graph: ir.Graph, names: Sequence[str]) -> None:
    """Name inputs and outputs; a value that leaves the graph twice, or that comes in and leaves, gets a copy for each name."""
    for value, name in zip(graph.inputs, names, strict=False):
        value.name = name
    taken = {*graph.inputs, *graph.initializers.values()}
    for index, name in enumerate(names[len(graph.inputs) :]):
        value = graph.outputs[index]
        if value in taken:
            copy = ir.Value(name=name, shape=value.shape, type=value.type)
            graph.append(ir.node("Identity", [value], outputs=[copy], name=f"{name}/Identity"))
            graph.outputs[index] = value = copy
        value.name = name
        taken.add(value)


def _path(node: ir.Node) -> str:
    assert node.name is not None
    return node.name.rpartition("/")[0]


def _attach_functions(proto: onnx.ModelProto, calls: Sequence[NodeCall], stateful: set[str], opset: int) -> None:
    """Give the file the function body of every ``snn`` operator it uses."""
    used = {node.op_type for node in proto.graph.node if node.domain == DOMAIN}
    nodes = [node for call in calls for node in (call.node, call.potentials) if node is not None]
    functions = {node.name: node.function(node.name in stateful, opset) for node in nodes if node.name in used}
    for name in sorted(functions):
        given = {a.name for node in proto.graph.node if node.domain == DOMAIN and node.op_type == name for a in node.attribute}
        proto.functions.append(with_defaults(functions[name], given))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
