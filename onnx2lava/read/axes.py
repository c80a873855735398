"""Where time, batch and features lie in an array: each axis as a product of atoms, outermost first.

Exporters fold and unfold axes at will, and permute them. An axis is therefore a tuple of *atoms*: time, batch, or a part of the
features of one sample at one time step, with its stride in the natural, row-major order of those features. T and N are replaced
by two large primes where a file leaves them open, so that a target shape, however it was computed, shows by its numbers what it
does. Atoms of size 1 say nothing and are left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from ..network import Shape

__all__ = [
    "BATCH",
    "SAMPLES",
    "STEPS",
    "TIME",
    "Atom",
    "Axes",
    "Axis",
    "dims_of",
    "feature_axes",
    "features_last",
    "joined",
    "listed",
    "reshaped",
]

STEPS, SAMPLES = 65537, 65539
"""Stand in for T and N where the file leaves them open: primes beyond any layer's size."""
TIME, BATCH, FEATURE = "T", "N", "F"


@dataclass(frozen=True)
class Atom:
    """A factor of an axis.

    Args:
        kind: :data:`TIME`, :data:`BATCH` or a part of the features.
        size: at least 2.
        stride: of a part of the features, in their natural order.
    """

    kind: str
    size: int
    stride: int = 0


Axis: TypeAlias = tuple[Atom, ...]
Axes: TypeAlias = tuple[Axis, ...]


def dims_of(axes: Axes) -> Shape:
    """The shape of an array with these axes."""
    return tuple(prod(atom.size for atom in axis) for axis in axes)


def feature_axes(features: Shape) -> Axes:
    """One axis for each dimension of ``features``, in their natural order."""
    axes, stride = [], prod(features)
    for size in features:
        stride //= size
        axes.append((Atom(FEATURE, size, stride),) if size > 1 else ())
    return tuple(axes)


def joined(atoms: Sequence[Atom]) -> Axis:
    """The same order with as few atoms as can say it."""
    result: list[Atom] = []
    for atom in atoms:
        last = result[-1] if result else None
        if last is not None and last.kind == atom.kind == FEATURE and last.stride == atom.stride * atom.size:
            result[-1] = Atom(FEATURE, last.size * atom.size, atom.stride)
        else:
            result.append(atom)
    return tuple(result)


def reshaped(axes: Axes, dims: Sequence[int]) -> Axes | None:
    """The axes of the array reshaped to ``dims``; None if those split time or batch, or hold another number of elements."""
    waiting = list(joined([atom for axis in axes for atom in axis]))[::-1]
    result: list[Axis] = []
    for dim in dims:
        axis: list[Atom] = []
        size = 1
        while size < dim:
            if not waiting or dim % size:
                return None
            atom, wanted = waiting.pop(), dim // size
            if wanted % atom.size:
                if atom.size % wanted or atom.kind != FEATURE:
                    return None
                inner = atom.size // wanted
                waiting.append(Atom(FEATURE, inner, atom.stride))
                atom = Atom(FEATURE, wanted, atom.stride * inner)
            axis.append(atom)
            size *= atom.size
        if size != dim:
            return None
        result.append(joined(axis))
    return None if waiting else tuple(result)


def features_last(axes: Axes, rank: int) -> bool:
    """Whether the last ``rank`` axes hold the features, all of them and nothing else."""
    lead = axes[: len(axes) - rank]
    return all(atom.kind != FEATURE for axis in lead for atom in axis) and all(
        atom.kind == FEATURE for axis in axes[len(axes) - rank :] for atom in axis
    )


def listed(dims: Sequence[int]) -> str:
    """A shape as messages show it."""
    return ", ".join({STEPS: "T", SAMPLES: "N", STEPS * SAMPLES: "T*N"}.get(dim, str(dim)) for dim in dims)
