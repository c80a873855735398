"""Run a network chunk by chunk: its states are carried from call to call."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import ModelFileError, StreamError
from ..files.model_file import read_model
from .runtime import session

__all__ = ["STATES_KEY", "StateInfo", "Stream", "state_infos"]

Array: TypeAlias = npt.NDArray[Any]

STATES_KEY = "sj2lava.states"
"""The metadata entry that lists the states of a file."""
_TYPES = ("float32", "float64", "int32", "int64")
_MOST_AXES, _MOST_NEURONS = 16, 1 << 26
"""Of a state of one sample: a few letters in a file must not ask for all memory."""


@dataclass(frozen=True)
class StateInfo:
    """A state of a network, as an input and an output of its graph.

    Args:
        input: the input's name.
        output: the output's name.
        shape: of one sample; the graph takes and gives ``[N, *shape]``.
        type: NumPy's name of its element type.
        initial: what it is filled with before the first step.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    type: str
    initial: float

    def first(self, samples: int) -> Array:
        """The state before the first step, ``[N, *shape]``."""
        return np.full((samples, *self.shape), self.initial, self.type)


class Stream:
    """A network that remembers: one call a chunk of time steps, the same spikes as in one call for all of them.

    Args:
        model: a file that ``sj2onnx.export(..., stateful=True)`` wrote: a path, the serialised bytes, or the model itself. Of
            a network in step mode ``s`` each call takes one step.
        kw: for :func:`custom_ops.session`: ``native``, ``device``, ``sess_options`` and the like.

    Raises:
        ModelFileError: the model is broken, or was exported without states.
        RuntimeUnavailableError: see :func:`custom_ops.session`.
    """

    def __init__(self, model: str | os.PathLike[str] | bytes | onnx.ModelProto, **kw: Any) -> None:
        proto = read_model(model)
        self._infos = state_infos(proto)
        if not self._infos:
            raise ModelFileError(
                f"The model {proto.graph.name!r} has no states to carry: export it with sj2onnx.export(..., stateful=True)."
            )
        self._session = session(proto, **kw)
        carried = {info.output for info in self._infos}
        self._outputs = [value.name for value in self._session.get_outputs() if value.name not in carried]
        free = {value.name for value in self._session.get_inputs()} - {info.input for info in self._infos}
        if len(free) != 1 or not self._outputs:
            raise ModelFileError(
                f"The model {proto.graph.name!r} has {len(free)} inputs and {len(self._outputs)} outputs beside its states, "
                "where a stream has one input and at least one output: export the model again."
            )
        (self._input,) = free
        self._batch_axis = int("sj2lava.time_axis" in {entry.key for entry in proto.metadata_props})
        self._states: dict[str, Array] = {}

    def __call__(self, x: npt.ArrayLike) -> Array:
        """The network's output for the next chunk ``x`` ``[T, N, *]`` (one step ``[N, *]`` in step mode ``s``)."""
        return self.run(x)[self._outputs[0]]

    def run(self, x: npt.ArrayLike) -> dict[str, Array]:
        """Every output for the next chunk, by name: ``output`` and, if exported so, each layer's spikes.

        Args:
            x: float32, ``[T, N, *]`` (``[N, *]`` in step mode ``s``); N as in the calls before.

        Raises:
            StreamError: ``x`` has another number of samples than the chunks before it, does not fit the network, or is not
                finite (no state would be, from then on).
        """
        x = np.asarray(x, np.float32)
        if not np.isfinite(x).all():
            place = [int(index) for index in np.argwhere(~np.isfinite(x))[0]]
            raise StreamError(f"The chunk has {x[tuple(place)]} at {place}, which no state recovers from: give finite numbers.")
        if x.ndim <= self._batch_axis:
            raise StreamError(f"The chunk has the shape {list(x.shape)}, without a batch axis: give [T, N, *].")
        samples = x.shape[self._batch_axis]
        try:
            states = self._states or {info.input: info.first(samples) for info in self._infos}
        except (MemoryError, ValueError) as error:
            raise StreamError(f"There is no memory for the states of {samples} samples: give fewer at a time.") from error
        before = next(iter(states.values())).shape[0]
        if before != samples:
            raise StreamError(
                f"The chunk has {samples} samples, but the states are those of {before}: call reset() before another batch."
            )
        names = [*self._outputs, *(info.output for info in self._infos)]
        try:
            values = dict(zip(names, self._session.run(names, {self._input: x, **states}), strict=True))
        except Exception as error:  # onnxruntime raises a dozen unrelated classes for an input it refuses
            reason = " ".join(str(error).split())
            raise StreamError(f"onnxruntime refuses a chunk of the shape {list(x.shape)}: {reason}") from error
        self._states = {info.input: values[info.output] for info in self._infos}
        return {name: values[name] for name in self._outputs}

    def reset(self) -> None:
        """Start again: the next chunk is the first one, with any number of samples."""
        self._states = {}

    @property
    def states(self) -> dict[str, Array]:
        """The states behind the last chunk, ``[N, *]`` by name; empty before the first one. Set them to go on from there."""
        return dict(self._states)

    @states.setter
    def states(self, states: Mapping[str, npt.ArrayLike]) -> None:
        """Go on from ``states``.

        Raises:
            StreamError: they are not the states of this network, for one number of samples.
        """
        if not states:
            self.reset()
            return
        if states.keys() != {info.input for info in self._infos}:
            raise StreamError(
                f"These are the states {', '.join(states)}, but the network has {', '.join(info.input for info in self._infos)}."
            )
        try:
            given = {info.input: np.asarray(states[info.input], info.type) for info in self._infos}
        except (ValueError, TypeError, OverflowError) as error:
            raise StreamError(f"The states are no numbers ({error}): give what `states` gave before.") from error
        for name, values in given.items():
            if not np.isfinite(values).all():
                raise StreamError(f"The state {name!r} is not finite: give what `states` gave before.")
        samples = {values.shape[0] if values.ndim else 0 for values in given.values()}
        for info in self._infos:
            if given[info.input].shape[1:] != info.shape or len(samples) != 1:
                raise StreamError(
                    f"The state {info.input!r} has the shape {list(given[info.input].shape)}, but needs [N, *{list(info.shape)}] "
                    "with one N for all states."
                )
        self._states = given


def state_infos(model: onnx.ModelProto) -> tuple[StateInfo, ...]:
    """The states that a model takes and gives, as its metadata list them; empty where it has none.

    Raises:
        ModelFileError: the metadata do not fit the graph.
    """
    text = {entry.key: entry.value for entry in model.metadata_props}.get(STATES_KEY, "[]")
    inputs, outputs = ({value.name for value in values} for values in (model.graph.input, model.graph.output))
    try:
        infos = tuple(
            StateInfo(
                str(entry["input"]),
                str(entry["output"]),
                tuple(int(size) for size in entry["shape"]),
                str(entry["type"]),
                float(entry["initial"]),
            )
            for entry in json.loads(text)
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"The metadata entry {STATES_KEY} is broken ({error}): export the model again.") from error
    for info in infos:
        sane = len(info.shape) <= _MOST_AXES and min(info.shape, default=0) >= 0 and prod(info.shape) <= _MOST_NEURONS
        if not sane or info.type not in _TYPES or not isfinite(info.initial):
            raise ModelFileError(
                f"The metadata entry {STATES_KEY} gives the state {info.input!r} a shape, a type or a first value that no state "
                f"has ({list(info.shape[:_MOST_AXES])}, {info.type!r}, {info.initial}): export the model again."
            )
        if info.input not in inputs or info.output not in outputs:
            raise ModelFileError(
                f"The metadata entry {STATES_KEY} names {info.input!r} and {info.output!r}, which the graph has not as an input "
                "and an output: export the model again."
            )
    return infos
