"""Copies of a user's network that can be run and traced without leaving anything behind in it."""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.base import MemoryModule
from torch import nn

from .blocks import BlockContainer
from .errors import ExportError
from .imported_from_nir import with_states_inside

__all__ = ["as_it_was", "copied", "unwrapped"]


def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside of ``DataParallel``, ``DistributedDataParallel``, ``torch.compile`` and ``import_from_nir``'s graphs.

    Raises:
        ExportError: ``net`` is no ``torch.nn.Module``, or one of ``import_from_nir`` with feedback.
    """
    if not isinstance(net, nn.Module):
        raise ExportError(
            f"The network is a {type(net).__name__}, not a torch.nn.Module: call export(net, example, path) in this order."
        )
    while (inner := _inside(net)) is not None:
        net = inner
    return with_states_inside(net)


def copied(net: nn.Module) -> nn.Module:
    """A copy of ``net`` on the CPU, in evaluation mode and reset, that shares its parameters.

    Wrappers inside are taken off, so that modules have the paths that they would have without; a network that is a single
    neuron or block becomes a Sequential of it, so that this has a path. Whatever a forward pass may change is copied.
    """
    # Memories may be results of a computation, which cannot be copied; a reset puts others in their place.
    shared: dict[int, Any] = {id(p): p for p in net.parameters() if p.device.type == "cpu"}
    for module in net.modules():
        if isinstance(module, MemoryModule):
            shared |= {id(value): value for value in module.memories() if isinstance(value, torch.Tensor)}
        if isinstance(v_seq := module.__dict__.get("v_seq"), torch.Tensor):
            shared[id(v_seq)] = v_seq
    shared |= {id(tensor): tensor.detach().clone() for tensor in _results(net) if id(tensor) not in shared}
    ready = copy.deepcopy(net, shared).cpu()
    for module in list(ready.modules()):
        for name, child in list(module.named_children()):
            while (inner := _inside(child)) is not None:
                child = inner
            setattr(module, name, child)
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "__module__", None) == _MONITORS]:
                del hooks[key]
    if isinstance(ready, BlockContainer | MemoryModule):
        ready = nn.Sequential(ready)
    ready.eval()
    for module in ready.modules():
        if isinstance(module, MemoryModule):
            module._memories = copy.deepcopy(module._memories_rv)
    functional.reset_net(ready)
    return ready


_MONITORS = "spikingjelly.activation_based.monitor"


@contextlib.contextmanager
def as_it_was(net: nn.Module, clone: Collection[tuple[str, str]] | None = None) -> Iterator[None]:
    """Undo at the end whatever happens to the attributes of ``net`` and its modules in between.

    Args:
        net: the network.
        clone: module paths and names of the buffers and tensor attributes that are changed in place, and so are worked on as
            copies; None for all.
    """
    before: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = []
    for path, module in net.named_modules():
        attributes = dict(module.__dict__)
        contents = {key: _content(value) for key, value in attributes.items() if isinstance(value, dict | list | set)}
        before.append((module, attributes, contents))
        for name, value in module._buffers.items():
            if value is not None and (clone is None or (path, name) in clone):
                module._buffers[name] = value.clone()
        for name, value in attributes.items():
            if isinstance(value, torch.Tensor) and (clone is None or (path, name) in clone):
                module.__dict__[name] = value.clone()
    try:
        yield
    finally:
        for module, attributes, contents in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, content in contents.items():
                _restore(attributes[name], content)


def _content(value: Any) -> Any:
    """A copy of what a collection holds, and the collections inside of it."""
    if isinstance(value, dict):
        return {key: (inner, _content(inner)) for key, inner in value.items()}
    if isinstance(value, list):
        return [(inner, _content(inner)) for inner in value]
    return set(value) if isinstance(value, set) else None


def _restore(value: Any, content: Any) -> None:
    if isinstance(value, dict):
        value.clear()
        for key, (inner, inside) in content.items():
            value[key] = inner
            _restore(inner, inside)
    elif isinstance(value, list):
        value[:] = [inner for inner, _ in content]
        for inner, inside in content:
            _restore(inner, inside)
    elif isinstance(value, set):
        value.clear()
        value.update(content)


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner: nn.Module = module.module
        return inner
    original = module.__dict__.get("_orig_mod") or module._modules.get("_orig_mod")
    return original if isinstance(original, nn.Module) and original is not module else None


def _results(net: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors among the attributes that autograd computed, which Python cannot copy."""
    for module in net.modules():
        for value in [*module.__dict__.values(), *module._buffers.values()]:
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                yield value
