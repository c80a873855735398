"""A network as SpikingJelly itself runs it: what a file must give as well."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron.base_node import NonSpikingBaseNode
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .neurons import overrides_forward
from .outputs import flattened
from .preparing import as_it_was
from .randomness import Draws, checksum
from .refusals import Trail, does_not_run
from .stateful import stateful_modules
from .torch_export import quiet

__all__ = ["Call", "Reference", "Run"]


@dataclass(frozen=True)
class Call:
    """One call of a stateful module.

    Args:
        path: the module's path.
        single_step: whether its input had no time axis.
        shape: of the input.
    """

    path: str
    single_step: bool
    shape: tuple[int, ...]


@dataclass
class Run:
    """What a run gave.

    Args:
        outputs: the tensors that the network gives, by their names in a file.
        calls: of stateful modules, in order.
        layers: what each stateful module gave, ``[T, N, *]`` for each call, by path, where the run was asked to keep it.
        checksums: of what each stateful module was given, in order, and of the outputs, where the run was asked to keep what
            they give.
        draws: path of a module that drew random numbers from NumPy or Python; None where none did.
        changed: module paths and names of buffers and tensor attributes that the run changed in place.
    """

    outputs: Mapping[str, torch.Tensor]
    calls: list[Call] = field(default_factory=list)
    layers: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    checksums: list[int] = field(default_factory=list)
    draws: str | None = None
    changed: set[tuple[str, str]] = field(default_factory=set)

    @property
    def has_loops(self) -> bool:
        """Whether the network runs a neuron step by step, one call for each."""
        single = [call.path for call in self.calls if call.single_step]
        return len(single) > len(set(single))

    @property
    def steps(self) -> int | None:
        """How many time steps the neurons saw; None where there are none."""
        if not self.calls:
            return None
        first = [call for call in self.calls if call.path == self.calls[0].path]
        return sum(1 if call.single_step else call.shape[0] for call in first)


class Reference:
    """A network in evaluation mode on the CPU that starts each run from reset states.

    Args:
        net: what :func:`sj2onnx.preparing.copied` gave.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.stateful = [(path, module) for path, module in _with_blocks(net)]

    def run(
        self,
        x: torch.Tensor,
        hook: Callable[[str], Callable[..., Any]] | None = None,
        before: Callable[[str], Callable[..., Any]] | None = None,
        keep: bool = False,
        seed: int = 0,
    ) -> Run:
        """Run the network on ``x``.

        Args:
            x: the input.
            hook: makes a forward hook for the stateful module of a path, which may put something else in place of its output.
            before: makes a hook that runs before that module.
            keep: whether to keep what stateful modules give.
            seed: where torch's random numbers start; afterwards they go on as if there had been no run.

        Raises:
            ExportError: the network's own code fails; the message names the module.
        """
        run = Run({})
        trail = Draws(self.net) if keep else Trail(self.net)
        with as_it_was(self.net), trail, torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # and not torch.manual_seed, which seeds GPUs as well
            versions = _versions(self.net)
            functional.reset_net(self.net)
            hooks = [module.register_forward_pre_hook(_keep(run.calls, path)) for path, module in self.stateful]
            if hook is not None:
                hooks += [module.register_forward_hook(hook(path)) for path, module in self.stateful]
            if keep:
                hooks += [module.register_forward_pre_hook(_sum_up(run.checksums)) for _, module in self.stateful]
                hooks += [module.register_forward_hook(_store(run.layers, path)) for path, module in self.stateful]
            if before is not None:
                hooks += [module.register_forward_pre_hook(before(path)) for path, module in self.stateful]
            try:
                y = self.net(x.clone())
            except Exception as error:  # whatever the network's own code raises
                raise does_not_run(self.net, x, error, trail) from error
            finally:
                for handle in hooks:
                    handle.remove()
            run.outputs = {name: value.detach().clone() for name, value in flattened(y).items()}
            if isinstance(trail, Draws):
                run.draws = trail.drawn
                run.checksums += map(checksum, run.outputs.values())
            run.changed = {key for key, (tensor, version) in versions.items() if tensor._version != version}
        return run

    def sizes(self, x: torch.Tensor) -> Run:
        """A run of which only the shapes mean anything, at the cost of none where the network allows it.

        Args:
            x: the input.

        Raises:
            ExportError: the network's own code fails.
        """
        try:
            with quiet(), FakeTensorMode(allow_non_fake_inputs=True):
                return self.run(torch.empty(x.shape, dtype=x.dtype))
        except Exception:  # It asks for values, or leaves torch.
            return self.run(x)


def _with_blocks(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The stateful modules, and each block in the place of the neuron inside of it."""
    from .blocks import BlockContainer

    found = []
    inside: set[int] = set()
    for path, module in net.named_modules():
        if isinstance(module, BlockContainer) and id(module) not in inside:
            inside |= {id(part) for part in module.modules()}
            if module.neuron is not None:
                found.append((path, module))
    return found + [
        (path, module)
        for path, module in _with_parts(net)
        if id(module) not in inside and not isinstance(module, NonSpikingBaseNode)
    ]


def _with_parts(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The stateful modules, and beside those with a forward pass of a user's own, which may be loops, the ones inside."""
    found: dict[str, nn.Module] = {}
    opened: set[int] = set()
    while len(modules := dict(stateful_modules(net, opened))) and modules.keys() - found.keys():
        found |= modules
        opened |= {id(module) for module in modules.values() if overrides_forward(module)}
    return list(found.items())


def _keep(calls: list[Call], path: str) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor):
            calls.append(Call(path, getattr(module, "step_mode", "m") == "s", tuple(inputs[0].shape)))

    return hook


def _sum_up(checksums: list[int]) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, inputs: Any) -> None:
        checksums.extend(checksum(value) for value in inputs if isinstance(value, torch.Tensor))

    return hook


def _store(layers: dict[str, list[torch.Tensor]], path: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            steps = output.unsqueeze(0) if getattr(module, "step_mode", "m") == "s" else output
            small = steps.to(torch.uint8)  # mostly spikes
            layers.setdefault(path, []).append(small if torch.equal(small.to(steps.dtype), steps) else steps.clone())

    return hook


def _versions(net: nn.Module) -> dict[tuple[str, str], tuple[torch.Tensor, int]]:
    return {
        (path, name): (value, value._version)
        for path, module in net.named_modules()
        for name, value in [*module._buffers.items(), *module.__dict__.items()]
        if isinstance(value, torch.Tensor)
    }
