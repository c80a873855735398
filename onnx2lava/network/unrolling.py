"""A map as the matrix that it is."""

from dataclasses import replace
from math import prod

import numpy as np

from ..errors import NetworkError
from .maps import Array, Dense, Map, Shape
from .network import N_co, Network

__all__ = ["LARGEST", "matrices_but", "matrix_size", "unrolled"]

LARGEST = 2**24
"""Weights that a matrix may have: a small file must not ask for a huge array."""


def matrix_size(map_: Map, shape: Shape) -> int:
    """Weights of the matrix that :func:`unrolled` gives."""
    return prod(map_.output_shape(shape)) * prod(shape)


def unrolled(map_: Map, shape: Shape) -> Array:
    """The matrix ``[O, I]`` from spikes of the shape ``shape`` to sums, both flattened in row-major order.

    Args:
        map_: any map; its weight's type is kept.
        shape: ``(C, H, W)`` or ``(F,)`` of the spikes.

    Raises:
        NetworkError: it would have more than :data:`LARGEST` weights, or the map cannot read such spikes.
    """
    if (size := matrix_size(map_, shape)) > LARGEST:
        raise NetworkError(f"a matrix in place of the {type(map_).__name__} takes {size:,} weights, more than {LARGEST:,}")
    if isinstance(map_, Dense):
        return map_.weight
    matrix = np.zeros((prod(map_.output_shape(shape)), prod(shape)), map_.weight.dtype)
    rows, columns, weights = map_.entries(shape)
    matrix[rows, columns] = weights
    return matrix


def matrices_but(network: Network[N_co], kinds: tuple[type[Map], ...]) -> Network[N_co]:
    """The same network with a matrix in place of every map that is neither one nor of ``kinds``; edges that share a map still do.

    Raises:
        NetworkError: as :func:`unrolled`.
    """
    made: dict[tuple[Map, Shape], Map] = {}
    populations = []
    for each in network.populations:
        edges = []
        for edge in each.edges:
            if not isinstance(edge.map, (Dense, *kinds)):
                key = edge.map, network.reads(edge)
                made[key] = made.get(key) or Dense(unrolled(*key))
                edge = replace(edge, map=made[key])
            edges.append(edge)
        populations.append(replace(each, edges=tuple(edges)))
    return replace(network, populations=tuple(populations))
