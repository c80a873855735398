"""NetX of lava-dl 0.6: chains, as a ``.net`` file that its users load."""

from .running import run_netx
from .target import NETX
from .writing import save_netx

__all__ = ["NETX", "run_netx", "save_netx"]
