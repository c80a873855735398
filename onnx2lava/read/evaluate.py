"""What a node gives, from what it reads: by the one table of operators, whatever the values are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import ConversionError, NetworkError
from .budget import Budget, BudgetError
from .call import Call, Cases, Filled, Value, described, refusal
from .form import Form, FormError, constant_form
from .operators import OPERATORS

__all__ = ["STANDARD_DOMAINS", "evaluated", "is_neuron"]

STANDARD_DOMAINS = ("", "ai.onnx")
_CASE_BY_CASE = [
    "Add",
    "Cast",
    "Concat",
    "Div",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Mul",
    "Neg",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Sum",
    "Transpose",
    "Unsqueeze",
    "Where",
]
"""Operators that leave each element where it is, or move it with its axes, so that what spikes decide about stays with its
neuron."""


def is_neuron(node: ir.Node) -> bool:
    """Whether it is a spiking layer: what other domains than ONNX's have is read as such, or refused."""
    return node.domain not in STANDARD_DOMAINS


def evaluated(node: ir.Node, inputs: Sequence[Value | None], budget: Budget, gates: Any = None) -> tuple[Value, ...]:
    """The outputs of ``node``; those that cannot be followed are strings that say why.

    Args:
        node: of a standard domain.
        inputs: None for those left out.
        budget: of the file.
        gates: makes neurons of a MaxPool or of a function of spikes; None inside a loop.

    Raises:
        ConversionError: spikes meet an operator that has no counterpart on Loihi.
    """
    call = Call(node, inputs, budget, gates)
    try:
        if any(isinstance(value, Cases) for value in inputs):
            return (_case_by_case(call),)
        if any(isinstance(value, Form) for value in inputs):
            return _of_forms(call)
        return _of_constants(call)
    except FormError as error:
        raise refusal(node, str(error), error.remedy) from error
    except BudgetError as error:
        raise refusal(node, str(error), "store weights as they are used, or choose smaller layers") from error
    except NetworkError as error:
        raise refusal(node, str(error), "use layers that fit") from error
    except ConversionError:
        raise
    except (ValueError, TypeError, IndexError, ArithmeticError, KeyError, AttributeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise refusal(node, f"its numbers make no sense ({reason})", "repair the file") from error


def _of_forms(call: Call) -> tuple[Value, ...]:
    operator = OPERATORS.get(call.node.op_type) if call.node.domain in STANDARD_DOMAINS else None
    if operator is None or operator.forms is None:
        call.refuse("it has no counterpart on Loihi", "remove it, or put it outside of the exported network")
    result = operator.forms(call)
    return result if isinstance(result, tuple) else (result,)


def _of_constants(call: Call) -> tuple[Value, ...]:
    node, outputs = call.node, max(len(call.node.outputs), 1)
    unknown = next((value for value in call.inputs if isinstance(value, str)), None)
    if unknown is not None:
        return (unknown,) * outputs
    operator = OPERATORS.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
    filled = any(isinstance(value, Filled) for value in call.inputs)
    try:
        if filled and operator is not None and operator.forms is not None:
            result = operator.forms(call)
            return result if isinstance(result, tuple) else (result,)
        if filled or operator is None or operator.constants is None:
            return (f"{described(node)} is not a constant that can be computed",) * outputs
        array = operator.constants(call, [value for value in call.inputs if isinstance(value, np.ndarray)])
    except BudgetError:
        raise
    except (ConversionError, FormError) as error:
        return (str(error).removeprefix("Cannot convert ").rstrip("."),) * outputs
    except (ValueError, TypeError, IndexError, ArithmeticError, KeyError, AttributeError, MemoryError, RuntimeError) as error:
        return (f"{described(node)} cannot be computed ({' '.join(str(error).split())})",) * outputs
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "biuf":
            return (f"{described(node)} gives something else than numbers",) * outputs
        call.budget.take(array.size, array.itemsize)
    return (array, *[f"it is a further output of {described(node)}"] * (outputs - 1))


def _case_by_case(call: Call) -> Value:
    """What spikes decide about is computed for both of their cases."""
    node = call.node
    cases = [value for value in call.inputs if isinstance(value, Cases)]
    drive, strict = cases[0].drive, cases[0].strict
    if any((case.drive, case.strict) != (drive, strict) for case in cases[1:]):
        call.refuse("it combines spikes with others", "use a container of linear layers and one neuron with hard reset")
    if node.op_type not in _CASE_BY_CASE or node.domain not in STANDARD_DOMAINS:
        call.refuse("it stands behind spikes in a loop", "use a container of linear layers and one neuron with hard reset")
    if node.op_type == "Where":
        condition, one, other = call.inputs
        if not isinstance(condition, Cases):
            call.refuse("it chooses by something else than spikes", "use a neuron with hard reset")
        if _is_number(condition.on, 0) and _is_number(condition.off, 1):
            one, other = other, one
        elif not (_is_number(condition.on, 1) and _is_number(condition.off, 0)):
            call.refuse("it chooses by something else than spikes", "use a neuron with hard reset")
        one, other = (_as_form(call, value, condition.on, case) for value, case in ((one, "on"), (other, "off")))
        return Cases(drive, one, other, strict)
    results: dict[str, Form] = {}
    for case in ("on", "off"):
        given = [getattr(value, case) if isinstance(value, Cases) else value for value in call.inputs]
        (result,) = evaluated(node, given, call.budget)
        if not isinstance(result, Form) or result.features != drive.features:
            call.refuse(
                "it moves spikes in a loop between neurons", "use a container of linear layers and one neuron with hard reset"
            )
        results[case] = result
    return Cases(drive, **results, strict=strict)


def _is_number(form: Form, number: int) -> bool:
    return not form.terms and bool((form.constant == number).all())


def _as_form(call: Call, value: Value | None, like: Form, case: str) -> Form:
    if isinstance(value, Cases):
        return value.on if case == "on" else value.off
    if isinstance(value, Form):
        return value
    if isinstance(value, Filled):
        return constant_form(like, np.full(1, value.value))
    if isinstance(value, np.ndarray):
        return constant_form(replace(like), value)
    call.refuse("it chooses something that cannot be followed", "use a neuron with hard reset")
