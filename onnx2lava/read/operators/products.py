"""Products of values along axes that they share: matrices of spikes by each other, and whatever else ``Einsum`` says."""

from collections.abc import Mapping, Sequence
from math import prod

from ...network import Array
from ..call import Call, Operator, Value
from ..features import summed
from ..form import Form, arranged, scaled, transposed
from ..repeating import alike, repeated
from .functions import product_of_spikes

__all__ = ["PRODUCTS", "matrices_of_spikes"]


def matrices_of_spikes(call: Call) -> Form:
    """``[..., n, d]`` by ``[..., d, m]``, both of spikes, as attention multiplies them."""
    one, other = call.form(0), call.form(1)
    rank = len(one.dims)
    if rank < 2 or rank != len(other.dims):
        call.refuse("it multiplies values of different numbers of axes", "give both the same")
    if one.dims[-1] != other.dims[-2]:
        call.refuse("its inputs do not fit each other", "write it as the operator's schema says")
    outer = [*range(rank - 2)]
    return _contracted(call, [[*outer, rank, rank + 1], [*outer, rank + 1, rank + 2]], [*outer, rank, rank + 2])


def _einsum(call: Call) -> Value:
    given, _, result = call.get_string("equation", "").replace(" ", "").partition("->")
    labels = [list(each) for each in given.split(",")]
    if len(labels) != len(call.inputs) or len(labels) > 2 or "." in given or any(len({*each}) < len(each) for each in labels):
        call.refuse(
            "it is no sum of products of one or two values whose axes are all named, each once in a value",
            "write it as products of two values",
        )
    if "->" not in call.get_string("equation", ""):  # what occurs once, in the order of the alphabet
        result = "".join(sorted(label for label in {*given} - {","} if given.count(label) == 1))
    if not {*result} <= {*given} or len({*result}) < len(result):
        call.refuse(f"its result has the axes {result!r}, which its inputs have not", "write it as the operator's schema says")
    return _contracted(call, labels, list(result))


def _contracted(call: Call, labels: Sequence[Sequence[object]], result: Sequence[object]) -> Form:
    """The products of all inputs, added up along the axes whose label is not in ``result``.

    Args:
        call: one or two inputs.
        labels: of the axes of each input; those of one label are the same axis.
        result: of the axes that come out.
    """
    order = [*result, *dict.fromkeys(label for each in labels for label in each if label not in result)]
    values = [_along(call, index, each, order) for index, each in enumerate(labels)]
    dims = [value.dims if isinstance(value, Form) else value.shape for value in values]
    if any(1 not in sizes and len({*sizes}) > 1 for sizes in zip(*dims, strict=True)):
        call.refuse("its inputs do not fit each other", "write it as the operator's schema says")
    forms = [value for value in values if isinstance(value, Form)]
    total = forms[0]
    if len(forms) == 2:
        call.require_neurons(prod(forms[0].features) * prod(map(max, *dims)) // prod(dims[0]))
        total = product_of_spikes(Call(call.node, [*alike(*forms)], call.budget, call.gates))
    elif len(values) == 2:
        (constant,) = (value for value in values if not isinstance(value, Form))
        total = scaled(repeated(total, tuple(map(max, *dims))), constant)
    if len(order) > len(result):
        total = summed(total, range(len(result), len(order)))
    return arranged(total, total.dims[: len(result)])


def _along(call: Call, index: int, labels: Sequence[object], order: Sequence[object]) -> Form | Array:
    """The input ``index`` with its axes in ``order``, of one element where it has none of that label."""
    value = call.inputs[index]
    value = value if isinstance(value, Form) else call.constant(index)
    dims = value.dims if isinstance(value, Form) else value.shape
    if len(dims) != len(labels):
        call.refuse(f"its input {index} has {len(dims)} axes, not {len(labels)}", "write it as the operator's schema says")
    places = [labels.index(label) for label in order if label in labels]
    wanted = [dims[labels.index(label)] if label in labels else 1 for label in order]
    if isinstance(value, Form):
        return arranged(transposed(value, places), wanted)
    return value.transpose(places).reshape(wanted)


PRODUCTS: Mapping[str, Operator] = {"Einsum": Operator(None, _einsum)}
"""A new operator is a line here."""
