"""Run stacks of Lava-DL's own blocks: ``python slayer_blocks.py IN.npz OUT.npz``.

IN holds ``cases``, a JSON list of cases, each a list of layers ``{"kind", "neuron", "arguments"}``; ``<case>/x``, spikes
``[T, N, *]``; and ``<case>/<layer>/weight`` for layers with one. OUT holds ``<case>/spikes`` ``[T, N, *]``, and for every
spiking layer ``<case>/<layer>/weight`` and ``<case>/<layer>/neuron`` (iDecay, vDecay, vThMant) as Lava-DL would write them to a
NetX file. A neuron's ``norm`` is ``{"mean", "var"}``, the running statistics of a WgtScaleBatchNorm.
"""

import json
import sys

import numpy as np
import torch
from lava.lib.dl import slayer

BLOCKS = {"conv": slayer.block.cuba.Conv, "dense": slayer.block.cuba.Dense, "pool": slayer.block.cuba.Pool}


def build(layer: dict, weight: np.ndarray | None) -> torch.nn.Module:
    if layer["kind"] == "flatten":
        return slayer.block.cuba.Flatten()
    if layer["kind"] == "neuron":
        return slayer.neuron.cuba.Neuron(**layer["neuron"])
    neuron = dict(layer["neuron"])
    statistics = neuron.pop("norm", None)
    block = BLOCKS[layer["kind"]](neuron, **layer["arguments"], delay_shift=False).eval()
    if statistics is not None:  # put in place as SpikingJelly's to_lava_block does
        norm = slayer.neuron.norm.WgtScaleBatchNorm(len(statistics["mean"]), pre_hook_fx=block.neuron.quantize_8bit).eval()
        norm.running_mean, norm.running_var = torch.tensor(statistics["mean"]), torch.tensor(statistics["var"])
        block.neuron.norm = norm
    if weight is not None:
        block.synapse.weight.data = torch.from_numpy(weight).reshape(block.synapse.weight.shape)
    return block


def main(source: str, target: str) -> None:
    given = np.load(source)
    found = {}
    for i, layers in enumerate(json.loads(str(given["cases"]))):
        x = torch.from_numpy(given[f"{i}/x"]).movedim(0, -1)
        for j, layer in enumerate(layers):
            name = f"{i}/{j}/weight"
            block = build(layer, given.get(name))
            with torch.no_grad():
                x = block(x)
                if hasattr(block, "synapse"):
                    found[name] = block.synapse.pre_hook_fx(block.synapse.weight, descale=True).numpy()
                    parameters = block.neuron.device_params
                    found[f"{i}/{j}/neuron"] = np.array([parameters[key] for key in ("iDecay", "vDecay", "vThMant")])
        found[f"{i}/spikes"] = x.movedim(-1, 0).numpy()
    np.savez(target, **found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
