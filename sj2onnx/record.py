"""Record what a network does in SpikingJelly, for machines that have neither torch nor SpikingJelly."""

import numpy as np
import numpy.typing as npt
import torch
from spikingjelly.activation_based import functional
from torch import nn

from custom_ops.files.trace import Trace

from .blocks import BlockContainer
from .errors import ExportError

__all__ = ["record"]


def record(net: nn.Module, x: torch.Tensor, *, labels: npt.ArrayLike | None = None, batch_size: int = 256) -> Trace:
    """Run ``net`` in eval mode and keep its input and the spikes of every spiking block.

    The trace names layers by their module paths, as :func:`sj2onnx.export` does; ``write_trace`` stores it,
    and ``onnx2lava verify --trace`` compares it with every other runtime. States are reset before and after.

    Args:
        net: a network of BlockContainers in step mode ``m``.
        x: input spikes ``[T, N, *]``.
        labels: the class of each sample, ``[N]``.
        batch_size: how many samples run at a time.

    Raises:
        ExportError: the network has no spiking block.
    """
    if isinstance(net, BlockContainer):
        net = nn.Sequential(net)  # as export does, so that the block has a name
    blocks = {name: m for name, m in net.named_modules() if isinstance(m, BlockContainer) and m.neuron is not None}
    if not blocks:
        raise ExportError(f"{type(net).__name__} has no BlockContainer with a neuron, so there are no spikes to record.")
    parts: dict[str, list[npt.NDArray[np.uint8]]] = {name: [] for name in blocks}

    def keep(name: str) -> object:
        return lambda module, args, spikes: parts[name].append(spikes.to(torch.uint8).cpu().numpy())

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]  # type: ignore[arg-type]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            for samples in x.split(batch_size, dim=1):  # type: ignore[no-untyped-call]
                functional.reset_net(net)
                net(samples)
    finally:
        for hook in hooks:
            hook.remove()
        functional.reset_net(net)
        net.train(training)
    spikes = {name: np.concatenate(recorded, axis=1) for name, recorded in parts.items()}
    return Trace(_compact(x), spikes, None if labels is None else np.asarray(labels))


def _compact(x: torch.Tensor) -> npt.NDArray[np.generic]:
    """The input in 8 bits where that loses nothing, as for spikes."""
    array: npt.NDArray[np.float32] = x.detach().cpu().numpy()
    small = array.astype(np.uint8)
    return small if np.array_equal(small, array) else array
