"""The one front door: a network in any format, known by its content and never by its name, and the one table of the formats."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from custom_ops.files.trace import file_kind

from ..errors import ConversionError
from ..network import Network, Neuron
from . import netx, nir, onnx_file
from .nir.content import is_nir_file
from .onnx_file import InputKind, Source

__all__ = ["FORMATS", "Format", "Readable", "format_of", "is_path", "load", "load_netx", "require_options"]

Readable: TypeAlias = Source
"""What :func:`load` takes: a path, the bytes of an ONNX file, or a model in memory."""


@dataclass(frozen=True)
class Format:
    """A kind of file, or of model in memory.

    Args:
        title: how sentences call it.
        is_one: whether something is of this format; it is asked only where no format before it in the table is.
        read: takes what it is, and those of ``options`` that were given, by name.
        options: arguments of :func:`load` that mean something for it.
    """

    title: str
    is_one: Callable[[Any], bool]
    read: Callable[..., Network[Neuron]]
    options: frozenset[str]


def is_path(model: Any, kind: str) -> bool:
    """Whether ``model`` is the path of a file that begins as files of ``kind`` do, see :func:`file_kind`."""
    return not isinstance(model, bytes) and (isinstance(model, str) or hasattr(model, "__fspath__")) and file_kind(model) == kind


FORMATS: tuple[Format, ...] = (
    Format(
        "a NIR graph",
        lambda model: is_path(model, "hdf5") and is_nir_file(model),
        nir.read_nir,
        frozenset({"dt", "producer"}),
    ),
    Format("a NIR graph", lambda model: type(model).__name__ == "NIRGraph", nir.read_nir, frozenset({"dt", "producer"})),
    Format(
        "a .net file of NetX",
        lambda model: is_path(model, "hdf5"),
        netx.read_netx,
        frozenset({"input_shape", "num_layers", "skip_layers"}),
    ),
    # What is nothing else is read as ONNX, whose reader says what is wrong with it.
    Format("an ONNX file", lambda model: True, onnx_file.read_onnx, frozenset({"input", "output"})),
)
"""All formats, in the order in which they are tried."""


def load(
    model: Readable,
    *,
    input: InputKind | None = None,
    output: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_layers: int | None = None,
    skip_layers: int | None = None,
    dt: float | None = None,
    producer: str | None = None,
) -> Network[Neuron]:
    """Read a spiking network, whatever its name: an ``.onnx`` file of any exporter, a ``.net`` file of Lava-DL's NetX, or a NIR
    graph, as a ``.nir`` file or a ``nir.NIRGraph``.

    Of ONNX, it reads what ``sj2onnx.export`` and ``to_onnx`` write, or an equivalent from any exporter. Between two neurons,
    everything that is affine may stand: Conv, ConvTranspose, Gemm, MatMul, biases, BatchNormalization, average pooling, nearest
    upsampling, sums, joined and split channels, padding, delays; weights may come through any operators that can be computed
    from constants alone; time and batch may be folded and permuted. MaxPool and products of spikes become neurons. What follows
    the last spikes (a vote, a mean over time, a last linear layer without neurons) becomes the network's ``readout``.

    Of NetX, it reads everything that NetX 0.6 runs with CUBA neurons, as NetX runs it; populations are named by their layer
    where the file keeps no names, ``layer/3``.

    Of NIR, it reads Affine, Linear, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten, Scale, Delay, Threshold, IF, LIF and CubaLIF,
    in any order, with loops and subgraphs.

    Args:
        model: a path, the serialised bytes of an ONNX file, or the model itself.
        input: of ONNX, what the network is fed with; by default what the exporter saw, else spikes. ``"spikes"``: 0 and 1.
            ``"images"``: any numbers; the first spiking layers, which turn them into spikes, then stay on the host as the
            network's ``encoder``. ``"counts"``: whole numbers of events a step, which go to Loihi as graded spikes of 8 bits.
        output: of ONNX, which of the model's outputs is the network's; by default the first.
        input_shape: of ``.net``, NetX's own argument: what comes in, in its order ``(W, H, C)`` or ``(F,)``, where the file has
            no ``input`` layer and begins with a convolution.
        num_layers: of ``.net``, NetX's own argument: the layers to read, from the first on; all by default.
        skip_layers: of ``.net``, NetX's own argument: of these, the first ones to leave out; none by default.

        dt: of NIR, seconds of a time step; by default 1e-4, as NIR's own importers have it.
        producer: of NIR, whose time steps its numbers mean, one of :data:`~onnx2lava.read.nir.PRODUCERS`; by default
            ``"spikingjelly"``.

    Returns:
        The network. Layers that trained quantised are made of Loihi's integers (int32); the others of real numbers.

    Raises:
        ModelFileError: the file is missing or broken.
        ConversionError: something in it has no counterpart on the way to Loihi, and the message names it; or an argument means
            nothing for its format.
        NetworkError: the layers contradict each other.
    """
    options = {
        "input": input,
        "output": output,
        "input_shape": input_shape,
        "num_layers": num_layers,
        "skip_layers": skip_layers,
        "dt": dt,
        "producer": producer,
    }
    given = {name: value for name, value in options.items() if value is not None}
    found = format_of(model)
    require_options(found, given)
    return found.read(model, **given)


def load_netx(
    path: Any, *, input_shape: Sequence[int] | None = None, num_layers: int | None = None, skip_layers: int | None = None
) -> Network[Any]:
    """:func:`load`, under its old name for ``.net`` files."""
    return load(path, input_shape=input_shape, num_layers=num_layers, skip_layers=skip_layers)


def require_options(format: Format, given: Iterable[str]) -> None:
    """Refuse arguments of :func:`load` that mean nothing for a format.

    Raises:
        ConversionError: one of them does.
    """
    for name in given:
        if name not in format.options:
            fitting = next(each.title for each in FORMATS if name in each.options)
            raise ConversionError(f"The argument {name} is for {fitting}, but this is {format.title}: leave it out.")


def format_of(model: Any) -> Format:
    """The format of ``model``.

    Raises:
        ModelFileError: it is a path that cannot be read.
    """
    return next(each for each in FORMATS if each.is_one(model))
