"""In which order the nodes of a graph come, and so which edges close a loop."""

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ranks"]


def ranks(nodes: Iterable[str], edges: Sequence[tuple[str, str]], inputs: Iterable[str]) -> Mapping[str, int]:
    """The place of each node: behind all that it reads, but what reads it as well.

    An edge that does not lead to a higher rank closes a loop; what comes through it is that of the step before. This is the
    reverse postorder of a depth-first search from the inputs: where every loop is entered at one node, which edges close loops
    does not depend on the order of the search (Hecht and Ullman, Characterizations of reducible flow graphs, 1974).
    """
    following: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        following[source].append(target)
    postorder: list[str] = []
    seen: set[str] = set()
    for root in [*sorted(inputs), *sorted(following)]:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(sorted(following[root])))]
        while stack:
            name, rest = stack[-1]
            after = next((each for each in rest if each not in seen), None)
            if after is None:
                postorder.append(name)
                stack.pop()
            else:
                seen.add(after)
                stack.append((after, iter(sorted(following[after]))))
    return {name: rank for rank, name in enumerate(reversed(postorder))}
