"""Columns in ONNX: an input for each column of the DataFrame that an estimator was fitted with, before its graph."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from rlce.supervised.columns import Columns, Date, Number, Text

ML = ("ai.onnx.ml", 2)  # has LabelEncoder, which looks up text


def refuse_dates(columns: Columns) -> None:
    """Refuse columns that cannot be written.

    Raises:
        ValueError: a column holds dates.
    """
    dates = [column.name for column in columns.columns if isinstance(column, Date)]
    if dates:
        what = f"column{'s' * (len(dates) > 1)} {', '.join(map(repr, dates))}"
        raise ValueError(f"model: {what} cannot be written as ONNX: dates; give it numbers, such as days")


def meanings(columns: Columns) -> dict[str, str]:
    """What each input means, by its name."""
    of = {Number: "[N, 1], a number; NaN is a gap", Text: '[N, 1], a string; "" is a gap'}
    return {column.name: of[type(column)] for column in columns.columns if not isinstance(column, Date)}


def put_before(proto: Any, columns: Columns, double: bool) -> Any:
    """The model ``proto``, whose input is "inputs" ``[N, D]``, with one input ``[N, 1]`` for each column instead.

    Args:
        proto: an ``onnx.ModelProto``.
        columns: without dates.
        double: True if "inputs" are float64; then those of number columns are, too.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind, dtype = (TensorProto.DOUBLE, np.float64) if double else (TensorProto.FLOAT, np.float32)
    nodes: list[Any] = []
    constants: list[Any] = []
    taken = itertools.count()

    def constant(values: Any, dtype: Any) -> str:
        name = f"columns/{next(taken)}"
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"columns/{next(taken)}"
        nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    inputs, parts = [], []
    for column in columns.columns:
        text = isinstance(column, Text)
        inputs.append(helper.make_tensor_value_info(column.name, TensorProto.STRING if text else kind, ["N", 1]))
        if isinstance(column, Number):
            missing = node("IsNaN", column.name)
            # What float32 loses of a large median is subtracted on its own.
            whole = np.asarray(column.median, dtype)
            shifted = node("Sub", column.name, constant(whole, dtype))
            shifted = node("Sub", shifted, constant(column.median - np.float64(whole), dtype))
            parts.append(node("Where", missing, constant(0.0, dtype), shifted))
            if column.indicator:
                parts.append(node("Cast", missing, to=kind))
        elif isinstance(column, Text):
            words = ["" if category is None else category for category in column.categories]
            values = list(range(len(words)))
            look_up = {"keys_strings": words, "values_int64s": values, "default_int64": -1, "domain": ML[0]}
            code = node("LabelEncoder", column.name, **look_up)
            parts.append(node("Cast", node("Equal", code, constant([values], np.int64)), to=kind))
    nodes.append(helper.make_node("Concat", parts, ["columns/inputs"], axis=1))
    output = helper.make_tensor_value_info("columns/inputs", kind, ["N", len(columns.outputs)])
    graph = helper.make_graph(nodes, "columns", inputs, [output], constants)
    opsets = [helper.make_opsetid(entry.domain, entry.version) for entry in proto.opset_import]
    if ML[0] not in {entry.domain for entry in opsets}:
        opsets.append(helper.make_opsetid(*ML))
    before = helper.make_model(graph, opset_imports=opsets, ir_version=proto.ir_version)
    # The names inside must differ from those of columns.
    rest = onnx.compose.add_prefix(proto, "network/", rename_inputs=False, rename_outputs=False)
    return onnx.compose.merge_models(before, rest, io_map=[("columns/inputs", "inputs")], producer_name="rlce")
