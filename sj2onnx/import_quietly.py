"""Imported before everything that imports torch.

torch warns of a compiler for GPUs that it does not find, once for each operator of SpikingJelly's; nothing here needs it.
"""

import logging

__all__: list[str] = []

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
