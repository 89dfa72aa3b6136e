"""Tiny networks in ONNX format: one that judges by colour, and those that misbehave."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SIDE = 16


def write_network(path: Path, kind: str = "colours") -> Path:
    """Write a network whose outputs are the means of red, green and blue, or one that does as `kind` says."""
    nodes, constants = _KINDS[kind]()
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [None, 3, _SIDE, _SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, kind, [picture], [scores], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def _constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def _means(out: str = "scores") -> list[Any]:
    return [
        helper.make_node("GlobalAveragePool", ["picture"], ["means"]),
        helper.make_node("Flatten", ["means"], [out]),
    ]


def _few() -> tuple[list[Any], list[Any]]:
    """Return two scores where three labels are."""
    names = ["flat", "first", "last", "axis"]
    constants = [_constant("first", [0]), _constant("last", [2]), _constant("axis", [1])]
    return [*_means("flat"), helper.make_node("Slice", names, ["scores"])], constants


def _large() -> tuple[list[Any], list[Any]]:
    """Return scores that are no probabilities."""
    constants = [_constant("factor", np.float32(1000))]
    return [*_means("flat"), helper.make_node("Mul", ["flat", "factor"], ["scores"])], constants


def _nothing() -> tuple[list[Any], list[Any]]:
    """Return what is no number."""
    constants = [_constant("zero", np.float32(0))]
    nodes = [*_means("flat"), helper.make_node("Mul", ["flat", "zero"], ["none"])]
    return [*nodes, helper.make_node("Div", ["none", "none"], ["scores"])], constants


def _hang() -> tuple[list[Any], list[Any]]:
    """Count to more than anybody has time for."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("before", "after")]
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    goes_on = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("was", "is")]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["was"], ["is"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [number, goes_on[0], values[0]],
        [goes_on[1], values[1]],
    )
    constants = [_constant("times", np.int64(2**62)), _constant("yes", np.bool_(True))]
    return [*_means("flat"), helper.make_node("Loop", ["times", "yes", "flat"], ["scores"], body=body)], constants


def _memory() -> tuple[list[Any], list[Any]]:
    """Ask for 64 GiB."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMean", ["zeros"], ["mean"], axes=[0]),
    ]
    return [*_means("flat"), *nodes, helper.make_node("Add", ["flat", "mean"], ["scores"])], [
        _constant("shape", np.array([2**34], np.int64))
    ]


_KINDS = {
    "colours": lambda: (_means(), []),
    "few": _few,
    "large": _large,
    "nothing": _nothing,
    "hang": _hang,
    "memory": _memory,
}
