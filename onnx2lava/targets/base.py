"""What every back end is: an object that says what it cannot hold, rewrites a network into what it has, and runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import LimitError
from ..lava_runtime import RunConfig
from ..network import Array, CubaNeuron, Network, Neuron

__all__ = ["Finding", "Progress", "Spikes", "Target", "require"]

Spikes: TypeAlias = Mapping[str, Array]
"""By the name of an input or population: ``[T, N, *shape]``, float32 of 0 and 1 (inputs may be counts)."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of samples done and in all."""


@dataclass(frozen=True)
class Finding:
    """Something about a population that its user should know.

    Args:
        population: its name.
        target: ``"loihi"``: no target can hold it, or not exactly; ``"chip"``: Lava's simulation runs it, the chip's registers do
            not hold it; else the name of the target that refuses it or would run it wrongly.
        message: what, why and what to do, as the rest of a sentence that begins with the population.
    """

    population: str
    target: str
    message: str

    def __str__(self) -> str:
        return f"The population {self.population!r} {self.message}."


class Target(ABC):
    """A place where networks of Loihi's integers run.

    Attributes:
        name: how callers and command lines ask for it.
        title: how tables and pages call it.
    """

    name: str
    title: str

    def available(self) -> str | None:
        """Why it cannot run on this machine, in one sentence; None where it can."""
        return None

    def check(self, network: Network[Neuron]) -> list[Finding]:
        """What it cannot hold or would run differently, population by population; of populations of real numbers, what
        quantisation will not change."""
        return []

    def legalise(self, network: Network[CubaNeuron]) -> Network[CubaNeuron]:
        """A network of the same spikes, made of what the target has: even padding, few groups, relays.

        The populations of ``network`` keep their names, though not always their shapes; new ones stand between them.

        Raises:
            LimitError: there is no such network; ``check`` has a finding that says so.
        """
        return network

    def configured(self, run_config: RunConfig) -> "Target":
        """The same target with a run configuration of Lava's that the user chose; itself where Lava has no part in it.

        Args:
            run_config: gives a new run configuration with each call; it may be sent to other processes.
        """
        return self

    @abstractmethod
    def run(self, network: Network[CubaNeuron], x: Spikes, progress: Progress | None = None) -> Spikes:
        """The spikes of every population of ``network``, by its name, ``[T, N, *shape]`` with the shape that it has there.

        Args:
            network: is legalised first.
            x: spikes or counts ``[T, N, *shape]`` of each input, by its name.
            progress: called as samples are done, where the target runs them one after the other.

        Raises:
            LimitError: the target cannot hold the network, or would run it wrongly.
            RuntimeUnavailableError: it cannot run here.
        """


def require(findings: Iterable[Finding]) -> None:
    """Refuse a network with findings.

    Raises:
        LimitError: the first of them.
    """
    for finding in findings:
        raise LimitError(str(finding))
