"""Lava-DL's own files: the networks and recordings that its wheel brings, and Lava run by hand, as Intel's tests do it."""

import importlib.metadata
from pathlib import Path

import numpy as np

__all__ = ["netx_folder", "plain_netx"]


def netx_folder() -> Path:
    """Where lava-dl's wheel keeps its tests of NetX."""
    files = importlib.metadata.files("lava-dl") or []
    (tiny,) = (each for each in files if str(each) == "tests/lava/lib/dl/netx/tiny.net")
    return Path(tiny.locate()).parent


def plain_netx(path, x, *, bias=None, **options):
    """The spikes of NetX's last layer for one sample, ``[T, *]``, with nothing of ours between, its delay taken off.

    Args:
        x: ``[T, *]`` spikes, or None where ``bias`` is given.
        bias: what the neurons of an ``input`` layer get as their bias, ``(C, H, W)`` or ``(F,)``, and for how many steps.
    """
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    # Layers with a bias would begin before their input arrives; this resets each just as it does.
    interval = len(x) if bias is None else bias[1]
    net = hdf5.Network(net_config=str(path), reset_interval=interval, reset_offset=int(bias is None), **options)
    if bias is None:
        steps, late = len(x), len(net)
        stream = x.reshape(steps, -1).T if len(net.inp.shape) == 1 else x.transpose(*range(x.ndim - 1, -1, -1))
        silence = np.zeros((*stream.shape[:-1], late), stream.dtype)
        source = io.source.RingBuffer(data=np.concatenate([stream, silence], axis=-1))
        source.s_out.connect(net.inp)
    else:
        image, steps = bias
        late = len(net) - 1
        net.in_layer.neuron.bias_mant.init = image.T.astype(int)
    sink = io.sink.RingBuffer(shape=net.out_layer.out.shape, buffer=steps + late)
    net.out_layer.out.connect(sink.a_in)
    try:
        net.run(condition=RunSteps(num_steps=steps + late), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        found = np.array(sink.data.get())
    finally:
        net.stop()
    return found[..., late:].transpose(*range(found.ndim - 1, -1, -1))
