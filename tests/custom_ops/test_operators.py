"""The definitions of the operators: function body, schema and reference page say the same as the NumPy reference."""

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import custom_ops
from custom_ops.operators import OPERATORS, OPSET, Form

from .one_node import (
    INPUTS,
    INT32,
    OUTPUTS,
    Case,
    cuba_lif_cases,
    float_cases,
    for_body,
    heterogeneous_cases,
    plain_cases,
    recurrent_cases,
)

CORNERS = {
    "CubaLIF": cuba_lif_cases(),
    "HeterogeneousCubaLIF": heterogeneous_cases(),
    "IF": float_cases(),
    "LIF": float_cases(),
    "RecurrentCubaLIF": recurrent_cases(),
}
"""Cases that know an operator's arithmetic; of any other its definition says what to try."""
CASES = st.one_of(*(CORNERS[name] if name in CORNERS else plain_cases(name) for name in OPERATORS))


@given(CASES)
@settings(deadline=None, max_examples=150)
def test_function_body_equals_the_reference(case: Case) -> None:
    assume(len(case.inputs["x"]) > 0)  # onnxruntime's Scan wants at least one step; the native kernels do not
    case = for_body(case)
    case.check(custom_ops.session(case.model(), native=False))


def forms(name: str) -> list[Form]:
    """The forms of call that an operator has a body for."""
    found = []
    for x_type, bias, states in product((onnx.TensorProto.FLOAT, INT32), (False, True), (False, True)):
        try:
            OPERATORS[name].function(Form(x_type, bias, states))
        except ValueError:
            continue
        found.append(Form(x_type, bias, states))
    return found


FORMS = {
    "CubaLIF": 8,
    "CubaLIFNode": 2,
    "HeterogeneousCubaLIF": 2,
    "IF": 2,
    "LIF": 2,
    "RecurrentCubaLIF": 8,
    "RecurrentHeterogeneousCubaLIF": 2,
}


def test_no_form_is_lost() -> None:
    """The tests below take what there is."""
    assert FORMS.items() <= {name: len(forms(name)) for name in OPERATORS}.items()


def example(name: str, form: Form) -> Case:
    operator = OPERATORS[name]
    left_out = operator.one_of[1:]
    attributes = {
        each.name: {"int": int, "float": float}[each.kind](np.clip(1, *each.range))
        for each in operator.attributes
        if each.required or (each.name in operator.one_of and each.name not in left_out)
    }
    inputs = {"x": np.ones((3, 2, 4), np.int32 if form.x_type == INT32 else np.float32)}
    for value in operator.inputs[1:]:
        if not value.optional or (form.bias if value.name == "bias" else form.states):
            shape = (4, 4) if value.name == "recurrent_weight" else (2, 4) if value.name.startswith("initial") else (4,)
            inputs[value.name] = np.ones(shape, np.int32 if "tensor(int32)" in value.types else np.float32)
    return for_body(Case(name, attributes, inputs))


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in OPERATORS for form in forms(name)])
def test_every_form_passes_the_full_check(name: str, form: Form) -> None:
    model = example(name, form).model()
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    # The function alone, too, says what comes out: nothing rests on the output's declared type.
    assert inferred.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("name", OPERATORS)
def test_schema_and_body_agree(name: str) -> None:
    operator = OPERATORS[name]
    schema = operator.schema()
    assert (schema.name, schema.domain, schema.since_version) == (name, "snn", 1)
    assert tuple(value.name for value in schema.inputs) == INPUTS[name]
    assert tuple(value.name for value in schema.outputs) == OUTPUTS[name]
    whole = forms(name)[-1]
    function = operator.function(whole)
    assert tuple(function.input) == INPUTS[name]
    assert tuple(function.output) == OUTPUTS[name]
    assert {*function.attribute, *(attribute.name for attribute in function.attribute_proto)} == set(schema.attributes)
    assert set(function.attribute) == {a.name for a in schema.attributes.values() if a.required}
    assert [(opset.domain, opset.version) for opset in function.opset_import] == [("", OPSET)]
    onnx.defs.register_schema(schema)
    onnx.defs.deregister_schema(name, 1, "snn")


@pytest.mark.parametrize("name", OPERATORS)
def test_reference_page_names_everything(name: str) -> None:
    operator = OPERATORS[name]
    page = operator.reference_page()
    assert operator.equations in page
    for part in (*operator.attributes, *operator.inputs, *operator.outputs):
        assert f"| `{part.name}`" in page


WRONG_ATTRIBUTES = [
    ("CubaLIF", {"i_decay": 4097, "v_decay": 0, "v_threshold": 0}, "i_decay = 4097, outside 0 ... 4096"),
    ("CubaLIF", {"i_decay": 0, "v_decay": -1, "v_threshold": 0}, "v_decay = -1, outside 0 ... 4096"),
    ("CubaLIF", {"i_decay": 0, "v_decay": 0, "v_threshold": 131072}, "v_threshold = 131072, outside 0 ... 131071"),
    ("CubaLIF", {"i_decay": 0, "v_decay": 0}, "lacks 'v_threshold'"),
    ("LIF", {"v_threshold": 1.0}, "exactly one of tau and decay"),
    ("LIF", {"v_threshold": 1.0, "tau": 2.0, "decay": 0.5}, "exactly one of tau and decay"),
    ("LIF", {"v_threshold": 1.0, "tau": 0.5}, "tau = 0.5, outside 1"),
    ("LIF", {"v_threshold": 1.0, "decay": float("nan")}, "decay = nan, outside 0 ... 1"),
]


@pytest.mark.parametrize(("name", "attributes", "message"), WRONG_ATTRIBUTES)
def test_wrong_attributes_are_refused(name: str, attributes: dict[str, float], message: str) -> None:
    case = example(name, Form())
    case.attributes = attributes
    with pytest.raises(custom_ops.errors.ModelFileError, match=message):
        custom_ops.session(case.model(), native=False)


@pytest.mark.parametrize("arguments", [{}, {"tau": 2.0, "decay": 0.5}])
def test_the_reference_wants_tau_or_decay(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either tau or decay"):
        custom_ops.reference.lif(np.zeros((1, 1)), 1.0, **arguments)


@pytest.mark.parametrize("name", custom_ops.OPERATORS)
def test_the_reference_pages_say_what_the_definitions_say(name: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "operators" / f"{name}.md"
    assert page.read_text(encoding="utf-8") == custom_ops.OPERATORS[name].reference_page(), "run docs/operators/make_pages.py"
