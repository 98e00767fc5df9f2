"""Vectors as values in numba: up to 128 numbers that stay in registers.

A spike list is summed fastest when the sums stay in registers while the list goes by. Loops over arrays cannot say that: the
compiler must assume that a store to the sums may change the weights, and writes the sums back after every spike. So here are
the few operations that such kernels need, on vectors as values. They are operations of LLVM, the compiler under numba, not of
a processor: it splits a vector over as many registers as the machine needs for it.

Arrays are flat, `at` counts numbers. Nothing is checked: the caller must know that loads and stores lie inside.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

# What numba compiles takes no run-time check of annotations around it: hence `no_type_check`. An intrinsic receives the types
# of its arguments, and returns its own type and what generates its code.
_intrinsic: Any = intrinsic

APART = 16
"""Numbers between the rows of a kernel's working memory. Rows of a power of 2 all begin at the same few places of the
first-level cache, which hold 8 of them: with more, each pushed another out, and backward passes took up to twice as long."""


class VectorType(types.Type):
    """The type of a vector: what its numbers are, and how many."""

    def __init__(self, number: Any, width: int) -> None:
        self.number = number
        self.width = width
        super().__init__(f"Vector({number}, {width})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.number).get_value_type(), kind.width))


@no_type_check
def _address(context, builder, kind, array, at, vector):
    data = cgutils.create_struct_proxy(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@no_type_check
def _repeat(builder, number, vector):
    """A vector of one number."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))


@_intrinsic(prefer_literal=True)
@no_type_check
def load(typing, array, at, width):
    """`array[at : at + width]`; the width is a constant."""
    result = VectorType(array.dtype, width.literal_value)

    def generate(context, builder, signature, values):
        address = _address(context, builder, array, values[0], values[1], context.get_value_type(result))
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return result(array, types.intp, width), generate


@_intrinsic
@no_type_check
def store(typing, array, at, vector):
    """`array[at : at + width] = vector`."""

    def generate(context, builder, signature, values):
        address = _address(context, builder, array, values[0], values[1], context.get_value_type(vector))
        builder.store(values[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_intrinsic
@no_type_check
def add(typing, a, b):
    """`a + b`."""
    return a(a, b), lambda context, builder, signature, values: builder.fadd(*values)


@_intrinsic
@no_type_check
def multiply(typing, a, b):
    """`a * b`, number by number."""
    return a(a, b), lambda context, builder, signature, values: builder.fmul(*values)


@_intrinsic
@no_type_check
def scale(typing, vector, factor):
    """`vector * factor`, the factor a number."""

    def generate(context, builder, signature, values):
        return builder.fmul(values[0], _repeat(builder, values[1], context.get_value_type(vector)))

    return vector(vector, vector.number), generate


@_intrinsic
@no_type_check
def add_scaled(typing, total, vector, factor):
    """`total + vector * factor`, the factor a number; rounded once, on a processor that can."""

    def generate(context, builder, signature, values):
        factors = _repeat(builder, values[2], context.get_value_type(vector))
        return _multiply_add(context, builder, vector, values[1], factors, values[0])

    return total(total, vector, vector.number), generate


@_intrinsic
@no_type_check
def add_product(typing, total, a, b):
    """`total + a * b`, number by number; rounded once, on a processor that can."""

    def generate(context, builder, signature, values):
        return _multiply_add(context, builder, a, values[1], values[2], values[0])

    return total(total, a, b), generate


@no_type_check
def _multiply_add(context, builder, vector, a, b, total):
    kind = context.get_value_type(vector)
    name = f"llvm.fmuladd.v{vector.width}f{vector.number.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, total])


@_intrinsic
@no_type_check
def differs(typing, array, at, number):
    """64 bits: bit k is set where `array[at + k] != number`. NaN differs from everything; -0.0 does not differ from 0.0."""

    def generate(context, builder, signature, values):
        kind = ir.VectorType(context.get_value_type(array.dtype), 64)
        address = _address(context, builder, array, values[0], values[1], kind)
        numbers = builder.load(address, align=array.dtype.bitwidth // 8)
        different = builder.fcmp_unordered("!=", numbers, _repeat(builder, values[2], kind))
        return builder.bitcast(different, ir.IntType(64))

    return types.uint64(array, types.intp, array.dtype), generate


@_intrinsic
@no_type_check
def lowest(typing, bits):
    """The position of the lowest bit that is set, of one at least."""

    def generate(context, builder, signature, values):
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


@_intrinsic
@no_type_check
def population(typing, bits):
    """How many bits are set."""
    return types.intp(types.uint64), lambda context, builder, signature, values: builder.ctpop(values[0])
