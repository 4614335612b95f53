"""A builder of ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import TensorProto, helper, numpy_helper

from jaxseq.export.program import Program

OPSET = 17
IR_VERSION = 8
"""The oldest version that has these operators: runtimes refuse a newer one than they know."""
TYPES: Mapping[np.dtype, int] = {
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int32): TensorProto.INT32,
}
LAST = np.iinfo(np.int64).max
"""End of a slice that goes to the last entry."""


Attribute: TypeAlias = int | float | str | Sequence[int]


class Graph:
    """Nodes and constants of a graph, in the order in which they are computed."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def input(self, name: str) -> Value:
        """Return an input of the whole graph."""
        return Value(self, name)

    def constant(self, value: ArrayLike, dtype: DTypeLike | None = None) -> Value:
        """Add an array."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return Value(self, name)

    def integers(self, value: int | Sequence[int]) -> Value:
        """Add indices, axes or sizes, which ONNX has in int64."""
        return self.constant(value, np.int64)

    def results(
        self,
        count: int,
        operator: str,
        *inputs: str,
        **attributes: Attribute,
    ) -> list[Value]:
        """Add an operation on arrays of these names, and return its results."""
        number = len(self.nodes)
        names = [f"{operator}_{number}_{place}" for place in range(count)]
        node = helper.make_node(operator, inputs, names)
        for name, value in attributes.items():
            attribute = helper.make_attribute(name, value)
            node.attribute.append(attribute)
        self.nodes.append(node)
        return [Value(self, name) for name in names]


@dataclass(frozen=True, eq=False)
class Value:
    """An array that a graph computes; operations on it add nodes to the graph.

    The other operand of an operation may be a number or an array of numpy, which has to have the same dtype.
    """

    graph: Graph
    name: str

    # A number of numpy on the left leaves the operation to this class.
    __array_ufunc__ = None

    def apply(
        self,
        operator: str,
        *others: Operand,
        **attributes: Attribute,
    ) -> Value:
        """Add an operation of ONNX on this array and others."""
        names = [self._operand(other).name for other in others]
        (result,) = self.graph.results(1, operator, self.name, *names, **attributes)
        return result

    def _operand(self, other: Operand) -> Value:
        if isinstance(other, Value):
            return other
        return self.graph.constant(other)

    def __add__(self, other: Operand) -> Value:
        return self.apply("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self.apply("Sub", other)

    def __mul__(self, other: Operand) -> Value:
        return self.apply("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self.apply("Div", other)

    def __matmul__(self, other: Operand) -> Value:
        return self.apply("MatMul", other)

    def __and__(self, other: Operand) -> Value:
        return self.apply("And", other)

    def __ge__(self, other: Operand) -> Value:
        return self.apply("GreaterOrEqual", other)

    def __le__(self, other: Operand) -> Value:
        return self.apply("LessOrEqual", other)

    def equals(self, other: Operand) -> Value:
        """Add which entries are equal; `==` compares Python's objects."""
        return self.apply("Equal", other)

    def maximum(self, *others: Operand) -> Value:
        """Add the largest of each entry."""
        return self.apply("Max", *others)

    def minimum(self, *others: Operand) -> Value:
        """Add the smallest of each entry."""
        return self.apply("Min", *others)

    def where(self, yes: Operand, no: Operand) -> Value:
        """Add the entries of `yes` where this is true, and of `no` elsewhere."""
        return self.apply("Where", yes, no)

    def turn(self, *axes: int) -> Value:
        """Add this array with its axes in another order."""
        return self.apply("Transpose", perm=axes)

    def cast(self, dtype: type[np.generic]) -> Value:
        """Add this array in another precision."""
        return self.apply("Cast", to=TYPES[np.dtype(dtype)])

    def shape(self, *sizes: int) -> Value:
        """Add this array in another shape; 0 keeps an axis, and -1 has what is left."""
        return self.apply("Reshape", self.graph.integers(sizes))

    def expand(self, axis: int) -> Value:
        """Add this array with one axis more, which has one entry."""
        return self.apply("Unsqueeze", self.graph.integers([axis]))

    def pad(self, before: int, axis: int) -> Value:
        """Add this array of three axes with zeros before the first entry of one of them."""
        counts = [0] * 6
        counts[axis] = before
        return self.apply("Pad", self.graph.integers(counts))

    def total(self, axis: int) -> Value:
        """Add the sum over an axis, which keeps one entry."""
        return self.apply("ReduceSum", self.graph.integers([axis]), keepdims=1)

    def running_total(self, axis: int) -> Value:
        """Add the sums of all entries up to each one of an axis."""
        return self.apply("CumSum", self.graph.integers(axis))

    def take(self, index: int | Sequence[int], axis: int = 2) -> Value:
        """Add the entries at a place, or at several, of an axis."""
        return self.rows_of(self.graph.integers(index), axis)

    def rows_of(self, index: Value, axis: int = 0) -> Value:
        """Add the entries of an axis at places that the graph computes."""
        return self.apply("Gather", index, axis=axis)

    def cut(
        self,
        first: int,
        end: int = LAST,
        axis: int = 1,
    ) -> Value:
        """Add the entries from `first` up to `end` of an axis; negative ones count back."""
        bounds = [self.graph.integers([bound]) for bound in (first, end, axis)]
        return self.apply("Slice", *bounds)

    def output(self, name: str) -> str:
        """Give this array the name by which it is a result of the whole graph, and return the name."""
        node = helper.make_node("Identity", [self.name], [name])
        self.graph.nodes.append(node)
        return name


Operand: TypeAlias = Value | np.ndarray | np.generic | float
"""An array of the graph, one of numpy, or a number, which is one in float64."""


def join(first: Value, *others: Value, axis: int) -> Value:
    """Add arrays one behind the other along an axis."""
    return first.apply("Concat", *others, axis=axis)


def model(
    graph: Graph,
    program: Program,
    results: Mapping[str, Sequence[int | str]],
    dtype: type[np.generic],
) -> onnx.ModelProto:
    """Return a graph with the inputs of its program and results of these shapes as a model, checked by onnx."""
    inputs = []
    for name, shape in program.shapes.items():
        dtype_number = TYPES[program.dtypes[name]]
        inputs.append(helper.make_tensor_value_info(name, dtype_number, ["n", *shape]))

    outputs = []
    for name, shape in results.items():
        outputs.append(helper.make_tensor_value_info(name, TYPES[np.dtype(dtype)], list(shape)))

    constants = []
    for name, value in graph.constants.items():
        in_order = np.asarray(value, order="C")
        constants.append(numpy_helper.from_array(in_order, name))

    body = helper.make_graph(
        graph.nodes,
        program.result,
        inputs,
        outputs,
        initializer=constants,
    )
    opset = helper.make_opsetid("", OPSET)
    built = helper.make_model(body, opset_imports=[opset], producer_name="jaxseq")
    built.ir_version = IR_VERSION
    onnx.checker.check_model(built, full_check=True)
    return built
