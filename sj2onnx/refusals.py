"""Say in one sentence of ours why a network cannot be exported: which module, what it does, and what helps."""

import re
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from custom_ops.errors import BridgeError

from .blocks import BlockContainer
from .errors import ExportError, one_line

__all__ = ["LONGEST", "Trail", "cannot_be_traced", "described", "does_not_run", "shortened"]

LONGEST = 400
"""Characters of the longest message."""


class Trail:
    """Remembers which modules are running, so that an error can name the innermost one."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._running: list[str] = []
        self._handles: list[Any] = []
        self.failed: str | None = None

    def __enter__(self) -> Self:
        for path, module in self._net.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._entered(path), prepend=True))
            self._handles.append(module.register_forward_hook(self._left))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def path(self) -> str:
        """Path of the innermost module that was entered and not left."""
        return self._running[-1] if self._running else ""

    def _entered(self, path: str) -> Any:
        return lambda module, inputs: self._running.append(path)

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._running:
            self._running.pop()


def does_not_run(net: nn.Module, x: torch.Tensor, error: Exception, trail: Trail) -> ExportError:
    """``net`` fails on ``x`` in SpikingJelly already."""
    if isinstance(error, ExportError):
        return error
    if isinstance(error, BridgeError):  # a sentence of ours, which says what to do
        block = trail.path.rpartition(".")[0]  # of whose neurons it may speak
        path = block if isinstance(net.get_submodule(block), BlockContainer) else trail.path
        return ExportError(f"{described(net, path)} cannot be exported: {one_line(error)}.")
    return ExportError(
        shortened(
            f"{described(net, trail.path)} does not run in SpikingJelly on an input of the shape {list(x.shape)}",
            _own_words(error) or _own_words(str(error).split("\n")[0]) or type(error).__name__,
            "net(example) has to run by itself first: write what is missing, or give an example of another shape, time first "
            "where the network wants it so.",
        )
    )


def cannot_be_traced(net: nn.Module, path: str, error: BaseException, who: str = "") -> ExportError:
    """torch fails to trace ``net``, at the module ``path``, which runs in SpikingJelly."""
    if isinstance(error, ExportError):
        return error
    text = f"{type(error).__name__}: {one_line(error)}"
    reason, remedy = next(
        ((reason, remedy) for pattern, reason, remedy in _REASONS if re.search(pattern, text, re.IGNORECASE | re.DOTALL)),
        _UNKNOWN,
    )
    operation = re.search(r"(?:aten|prims|torchvision)[.:]+(\w+)", text)
    if "{}" in reason:
        reason = reason.format(f"the operation {operation[1]!r}" if operation else "an operation")
    return ExportError(shortened(f"{who or described(net, path)} cannot be exported", reason, remedy))


_UNKNOWN = (
    "its forward does something with the input that cannot be written down as a graph",
    "export the parts in front of it and behind it by themselves, or write this one with torch operations alone.",
)

_REASONS = (
    (
        r"data.dependent|GuardOnDataDependent|Could not extract specialized integer|u\d+ (is|==|!=|>|<)|_local_scalar_dense|"
        r"Unbacked|nonzero|\.item\(\)",
        "its forward decides by the values in a tensor (an if, a while, a list or an index made of them), which a graph cannot",
        "use torch.where, or decide outside of the network.",
    ),
    (
        r"No ONNX function found|No decompositions registered|DispatchError|Unsupported.{0,40}op|not supported by ONNX|"
        r"ConversionError.{0,400}(aten|torchvision)",
        "it uses {}, which ONNX has no counterpart for",
        "write it with other torch operations, or leave this part out of the exported network.",
    ),
    (
        r"numpy|\.data_ptr|ndarray",
        "its forward leaves torch (NumPy, say), where nothing can be recorded",
        "do the same with torch operations, or outside of the network.",
    ),
    (
        r"Constraints violated|specialized|was inferred to be a constant|not in VR|ValueRange|min_val|L\['",
        "its forward is written for one number of time steps or samples",
        "take sizes from the input's shape instead of numbers, and decide nothing by them (no if on x.shape).",
    ),
    (
        r"autograd|requires_grad|Function",
        "it has a function of autograd of its own, which cannot be recorded",
        "give it a forward of torch operations for evaluation.",
    ),
)


def shortened(what: str, reason: str, remedy: str) -> str:
    """``what (reason): remedy`` in at most :data:`LONGEST` characters; the reason gives way."""
    room = LONGEST - len(what) - len(remedy) - 5
    reason = reason if len(reason) <= room else reason[: max(room - 2, 0)].rstrip() + " …"
    return f"{what} ({reason}): {remedy}" if reason else f"{what}: {remedy}"


_FORBIDDEN = re.compile(
    r"\x1b|guard|symint|symbolic|\bs\d+\b|\bu\d+\b|TORCH_|dynamo|tlparse|draft_export|FakeTensor|fx\.|aten[.:]|dynamic_shapes|"
    r"torch\.export|https?://|/[\w.-]+/[\w./-]+",
    re.IGNORECASE,
)


def _own_words(error: BaseException | str) -> str:
    """What the network's own code said; nothing where that is about the inner life of a tracer."""
    text = one_line(error)
    return "" if _FORBIDDEN.search(text) else text


def described(net: nn.Module, path: str) -> str:
    """How messages name the module ``path`` of ``net``."""
    if not path:
        return f"The network ({type(net).__name__})"
    try:
        return f"The module {path!r} ({type(net.get_submodule(path)).__name__})"
    except AttributeError:
        return f"The module {path!r}"
