"""The forms of an ONNX graph: the same numbers, written with the operations that a runtime computes well.

What PyTorch's exporter writes is computed slowly by one runtime, wrongly by another and not at all by a third. So a
graph is written in a form for each. A new form is one entry in `FORMS`: its rows in the parity table, its option in
`deeplens export onnx --form` and its place in the manifest (`runtimes.onnx_form`) follow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError, MismatchError
from deeplens.export.onnx_apart import choose_slices, leave_apart, weigh_groups
from deeplens.export.onnx_narrow import narrowed, widest
from deeplens.export.onnx_openvino import quantise_apart, repeat_by_convolution
from deeplens.export.onnx_rewrite import (
    by_node,
    first_of,
    shuffle_by_convolution,
    thin_by_taps,
    transposed_by_shuffle,
    used_channels,
)
from deeplens.export.onnx_sums import (
    line_by_product,
    pool_by_convolution,
    softmax_by_convolution,
    sum_by_convolution,
    sum_by_parts,
    windows_by_convolution,
)
from deeplens.export.onnx_taps import weigh_slices
from deeplens.runtimes.onnx_form import CPU
from deeplens.runtimes.spec import RUNTIMES

if TYPE_CHECKING:
    import onnx

Pass = Callable[["onnx.ModelProto"], "onnx.ModelProto"]
"""A graph → a graph of the same inputs, outputs and numbers (sums to rounding)."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form.

    Attributes:
        runs_on: the runtime that it is for, in words.
        passes: what is done to the exporter's simplified graph, in this order.
        refused: operation → why no graph of this form may have it. A pass that is missing is then an error, and not a
            wrong picture.
        widest: the most tensors that an operation may join or part; None: any number.
        precisions: that its graphs are written in.
        quantised: what is done to a graph after it got Q/DQ nodes.
    """

    runs_on: str
    passes: tuple[Pass, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    widest: int | None = None
    precisions: tuple[str, ...] = ("fp32",)
    quantised: tuple[Pass, ...] = ()


_REDUCTIONS = {"Softmax": softmax_by_convolution, "ReduceSum": sum_by_convolution}

FORMS: dict[str, Form] = {
    CPU: Form(
        runs_on="ONNX Runtime on a CPU; WebAssembly and TensorRT compute it right too",
        passes=(
            used_channels,
            weigh_slices,
            choose_slices,
            weigh_groups,
            leave_apart,
            partial(
                by_node,
                rules={
                    "DepthToSpace": shuffle_by_convolution,
                    "Conv": first_of(thin_by_taps, sum_by_parts, line_by_product),
                    "AveragePool": pool_by_convolution,
                    "Softmax": softmax_by_convolution,
                    "ReduceSum": first_of(sum_by_parts, sum_by_convolution),
                },
            ),
            windows_by_convolution,
        ),
        precisions=RUNTIMES["onnx"].precisions,
    ),
    "webgpu": Form(
        runs_on="ONNX Runtime's WebGPU provider, in browsers",
        passes=(
            used_channels,
            weigh_slices,
            partial(by_node, rules={"ConvTranspose": transposed_by_shuffle, **_REDUCTIONS}),
            partial(narrowed, most=8),
        ),
        refused={"ConvTranspose": "a grouped one is computed wrongly"},
        widest=8,
    ),
    "openvino": Form(
        runs_on="OpenVINO on a CPU",
        passes=(
            used_channels,
            weigh_slices,
            partial(by_node, rules={"Conv": thin_by_taps, **_REDUCTIONS}),
            repeat_by_convolution,
        ),
        precisions=("fp32", "int8"),
        quantised=(quantise_apart,),
    ),
}
"""Name → form. `cpu` is what all runtimes read that have no form of their own."""


def checked_form(name: str) -> Form:
    """The form of this name. InputError where there is none."""
    if name not in FORMS:
        raise InputError(f"unknown form '{name}': choose {' or '.join(FORMS)}")
    return FORMS[name]


def check_written(forms: Sequence[str], *, precision: str, whole: bool) -> None:
    """Raise InputError unless graphs are written in these forms.

    Args:
        precision: of the artefacts.
        whole: of the whole effect.
    """
    for each in forms:
        form = checked_form(each)
        if each != CPU and whole:
            raise InputError(f"--whole is written in the form {CPU} only: leave out --form {each}")
        if precision not in form.precisions:
            able = [name for name, other in FORMS.items() if precision in other.precisions]
            raise InputError(
                f"--precision {precision} is written in the form {' or '.join(able)} only: leave out --form {each}"
            )


def in_form(model: "onnx.ModelProto", form: str = CPU) -> "onnx.ModelProto":
    """A simplified graph, written in a form; the one that is given stays as it is.

    Raises:
        InputError: there is no such form.
        MismatchError: the graph still has what the form refuses.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    for each in checked_form(form).passes:
        made = each(made)
    check_form(made, form)
    return made


def check_form(model: "onnx.ModelProto", form: str) -> None:
    """Raise MismatchError where a graph has an operation that the form's runtime can't compute or computes wrongly."""
    wanted = checked_form(form)
    for node in model.graph.node:
        if node.op_type in wanted.refused:
            raise MismatchError(
                f"{node.name} is a {node.op_type}, which the form {form} refuses ({wanted.refused[node.op_type]}): "
                "add a rule for it to export/onnx_forms.py"
            )
        if wanted.widest is not None and widest(node) > wanted.widest:
            raise MismatchError(
                f"{node.name} joins or parts {widest(node)} tensors, and the form {form} allows {wanted.widest}"
            )
