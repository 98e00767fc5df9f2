"""Registers of a vector unit as values in numba: 64 bytes, 16 numbers in float32 or 8 in float64.

A spike list is summed fastest when the sums stay in registers while the list goes by. Loops over arrays cannot say that:
the compiler must assume that a store to the sums may change the weights, and writes them back after every spike. So here are
the few operations that the kernels of this folder need, on vectors as values, which the compiler keeps in registers by itself.
They are instructions of LLVM, not of a processor: it splits a vector where the machine's registers are narrower.

Arrays are flat, and `at` counts numbers. Nothing is checked: whoever loads or stores must know that it lies inside.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

BYTES = 64
"""The size of a vector."""

_intrinsic: Any = intrinsic  # numba passes the first argument of what it decorates


class VectorType(types.Type):
    """The type of a vector, by the type of its numbers."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.count = BYTES * 8 // number.bitwidth
        super().__init__(f"Vector({number}, {self.count})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.number).get_value_type(), kind.count))


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> Any:
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@_intrinsic
@no_type_check
def load(typing: Any, array: Any, at: Any) -> Any:
    """`array[at : at + 16]` (8 in float64)."""
    result = VectorType(array.dtype)

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        address = _address(context, builder, array, values[0], values[1], context.get_value_type(result))
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return result(array, types.intp), generate


@_intrinsic
@no_type_check
def store(typing: Any, array: Any, at: Any, vector: Any) -> Any:
    """`array[at : at + 16] = vector`."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        address = _address(context, builder, array, values[0], values[1], context.get_value_type(vector))
        builder.store(values[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_intrinsic
@no_type_check
def add(typing: Any, a: Any, b: Any) -> Any:
    """`a + b`."""
    return a(a, b), lambda context, builder, _, values: builder.fadd(*values)


@_intrinsic
@no_type_check
def scale(typing: Any, vector: Any, factor: Any) -> Any:
    """`vector * factor`, the factor a number."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        kind = context.get_value_type(vector)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), values[1], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
        return builder.fmul(values[0], builder.shuffle_vector(first, first, zeros))

    return vector(vector, vector.number), generate


@_intrinsic
@no_type_check
def differs(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """64 bits: bit k is set where `array[at + k] != value`; NaN differs from everything, -0.0 does not differ from 0.0."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.VectorType(context.get_value_type(array.dtype), 64)
        address = _address(context, builder, array, values[0], values[1], kind)
        numbers = builder.load(address, align=array.dtype.bitwidth // 8)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), values[2], ir.Constant(ir.IntType(32), 0))
        same = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), 64), None))
        return builder.bitcast(builder.fcmp_unordered("!=", numbers, same), ir.IntType(64))

    return types.uint64(array, types.intp, array.dtype), generate


@_intrinsic
@no_type_check
def lowest(typing: Any, bits: Any) -> Any:
    """The position of the lowest bit that is set, of one at least."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


@_intrinsic
@no_type_check
def population(typing: Any, bits: Any) -> Any:
    """How many bits are set."""
    return types.intp(types.uint64), lambda context, builder, _, values: builder.ctpop(values[0])
