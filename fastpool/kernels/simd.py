"""Vectors, masks and register tiles for Numba, and the operations on them.

Numba has no vector type but accepts one: a type whose data model is an LLVM vector (or an array of vectors, a
*tile*), with intrinsics that emit the instructions. Nothing here knows of convolution or pooling.

A kernel holds a `spec`, a value without content whose Numba type says element type, lanes, vectors and width:

- ``Pointer``: address of elements; ``p + n`` moves by elements, ``p[i]`` reads and ``p[i] = v`` writes one.
- ``Vector``: `lanes` elements in one register; ``a + b``, ``a - b``, ``a * b``, ``a / b`` work lane by lane.
- ``Mask``: one bit a lane, for loads and stores that may not touch their neighbours.
- ``Tile``: `vectors` x `width` vectors that stay in registers through a reduction.

Three rules keep the code right and fast. Every load and store carries the element's alignment, because NumPy promises
no more. No pointer is ever made from an integer (LLVM 22 miscompiles that); pointers are loaded as such from memory.
No fast-math flag is set: they would drop NaN.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from fastpool.kernels.elements import HALVES, I1, I8, I32, I64, Half, element, narrow_ir, widen_ir
from fastpool.machine.processor import TARGET

#: Whether masks are registers of their own, which cost loads and stores nothing. AVX2 has vectors for masks, loads that
#: take a few cycles, and stores that take 15 times as long as whole ones on AMD's (5 ns on Zen 3); SSE and NEON have
#: nothing.
HAS_MASKS = TARGET.name == "avx512"


class Spec(types.Type):
    """Element type and shape of the vectors and tiles of one kernel, with the variant of the kernel."""

    def __init__(self, dtype, lanes, vectors=1, width=1, variant=""):
        self.dtype, self.lanes, self.vectors, self.width, self.variant = dtype, lanes, vectors, width, variant
        self.element, self.size = str(dtype), dtype.bitwidth // 8
        super().__init__(name=f"Spec({dtype},{lanes},{vectors}x{width},{variant})")


def type_for(spec):
    """Type of a routine's spec."""
    return Spec(getattr(types, spec.element), spec.lanes, spec.vectors, spec.width, spec.variant)


def source_of(spec):
    """Type of the elements that a kernel reads: that of the spec, or the one that its variant says ``from`` before."""
    words = spec.variant.split()
    if "from" not in words:
        return spec.dtype
    name = words[words.index("from") + 1]
    return HALVES.get(name) or getattr(types, name)


def result_of(spec):
    """Type of the elements that a kernel writes: that of the spec, but 16-bit floats where it reads such."""
    source = source_of(spec)
    return source if isinstance(source, Half) else spec.dtype


class Pointer(types.Type):
    """Address of elements of type `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.size = dtype.bitwidth // 8
        super().__init__(name=f"Pointer({dtype})")


class Vector(types.Type):
    """One register of `lanes` elements."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype},{lanes})")


class Mask(types.Type):
    """One bit for each of `lanes` lanes."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


class Tile(types.Type):
    """`vectors` x `width` registers, indexed ``[vector * width + column]``."""

    def __init__(self, spec):
        self.spec = spec
        super().__init__(name=f"Tile({spec})")


def vector_ir(t):
    """LLVM vector type of a Spec or Vector."""
    return ir.VectorType(element(t.dtype), t.lanes)


register_model(Spec)(models.OpaqueModel)


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, element(fe_type.dtype).as_pointer())


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_ir(fe_type))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(I1, fe_type.lanes))


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        spec = fe_type.spec
        super().__init__(dmm, fe_type, ir.ArrayType(vector_ir(spec), spec.vectors * spec.width))


# --- building blocks: LLVM IR only, for the intrinsics here and in the kernels -----------------------------------


def name_of(kind):
    """Suffix of an LLVM intrinsic for a vector or element type."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{name_of(kind.element)}"
    return {"float": "f32", "double": "f64"}.get(str(kind), str(kind))


def _of_integers(kind):
    return isinstance(kind.element if isinstance(kind, ir.VectorType) else kind, ir.IntType)


def splat_ir(builder, scalar, lanes):
    """All lanes equal to `scalar`: insert into lane 0, shuffle with a zero mask (one broadcast instruction)."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), None))


def call_ir(builder, name, *values):
    """Call an LLVM intrinsic, such as fabs, on elements or vectors."""
    kind = values[0].type
    signature_ = ir.FunctionType(kind, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, signature_, f"llvm.{name}.{name_of(kind)}")
    return builder.call(function, values)


def add_ir(builder, a, b):
    """Return a + b of vectors or elements; integers wrap."""
    return builder.add(a, b) if _of_integers(a.type) else builder.fadd(a, b)


def fma_ir(builder, a, b, c):
    """Return a * b + c of vectors or elements: fused where the processor can, else rounded twice, never a call."""
    if _of_integers(a.type):
        return builder.add(builder.mul(a, b), c)
    if not TARGET.has_fma:
        return builder.fadd(builder.fmul(a, b), c)
    return call_ir(builder, "fma", a, b, c)


def range_mask_ir(builder, low, high, lanes, start=0):
    """Lanes l with low <= start + l < high; the bounds are clamped first, to 32 bits, or 8 where a vector has more."""
    # 32 lanes or more are narrow elements: their indices fill several registers unless they are as narrow.
    kind = I8 if lanes >= 32 and start + lanes <= 127 else I32
    index = ir.Constant(ir.VectorType(kind, lanes), [kind(start + lane) for lane in range(lanes)])
    limit = 127 if kind is I8 else 2**30

    def clamped(value):
        low_bound, high_bound = I64(-limit), I64(limit)
        value = builder.select(builder.icmp_signed("<", value, low_bound), low_bound, value)
        value = builder.select(builder.icmp_signed(">", value, high_bound), high_bound, value)
        return splat_ir(builder, builder.trunc(value, kind), lanes)

    above = builder.icmp_signed(">=", index, clamped(low))
    return builder.and_(above, builder.icmp_signed("<", index, clamped(high)))


def mask_word_ir(builder, masks, index, lanes):
    """Mask from a table of words, a bit for each lane."""
    word = builder.load(builder.gep(masks, [index]), align=8)
    bits = builder.trunc(word, ir.IntType(lanes)) if lanes < 64 else word
    if HAS_MASKS:
        return builder.bitcast(bits, ir.VectorType(I1, lanes))
    # Left alone, LLVM inserts lane after lane, 40 instructions in all: instead, the word in each lane, and its bit.
    kind = ir.IntType(min(64, max(8, 8 * TARGET.vector_bytes // lanes)))
    if kind.width >= lanes:
        words = splat_ir(builder, builder.trunc(word, kind) if kind.width < 64 else word, lanes)
    else:
        parts = builder.bitcast(bits, ir.VectorType(kind, lanes // kind.width))
        words = shuffle_ir(builder, parts, parts, [lane // kind.width for lane in range(lanes)])
    own = ir.Constant(words.type, [kind(1 << lane % kind.width) for lane in range(lanes)])
    return builder.icmp_unsigned("!=", builder.and_(words, own), ir.Constant(words.type, None))


def as_vector(builder, pointer, vector):
    """Pointer to a vector."""
    return builder.bitcast(pointer, vector.as_pointer())


def load_ir(builder, pointer, vector, size):
    """Load a whole vector from an address aligned to `size` bytes."""
    return builder.load(as_vector(builder, pointer, vector), align=size)


def store_ir(builder, value, pointer, size):
    """Store a whole vector."""
    builder.store(value, as_vector(builder, pointer, value.type), align=size)


def masked_load_ir(builder, pointer, vector, mask, fill, size):
    """Load the lanes in `mask`, the others are `fill`; memory outside the mask is not touched."""
    kind = ir.FunctionType(vector, [vector.as_pointer(), I32, mask.type, vector])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.{name_of(vector)}.p0")
    place = as_vector(builder, pointer, vector)
    if not _goes_lane_by_lane(size):
        return builder.call(function, [place, I32(size), mask, fill])
    with builder.if_else(_is_full(builder, mask)) as (whole, part):
        with whole:
            loaded, first = load_ir(builder, pointer, vector, size), builder.block
        with part:
            picked, second = builder.call(function, [place, I32(size), mask, fill]), builder.block
    value = builder.phi(vector)
    value.add_incoming(loaded, first)
    value.add_incoming(picked, second)
    return value


def _goes_lane_by_lane(size):
    """Whether masks of elements of so many bytes become a branch for each lane: then full ones are told apart."""
    return size < 4 and TARGET.name != "avx512"


def _is_full(builder, mask):
    bits = ir.IntType(mask.type.count)
    return builder.icmp_unsigned("==", builder.bitcast(mask, bits), bits(2**bits.width - 1))


def widening_load_ir(builder, spec, source, pointer, mask, fill):
    """Load the lanes in `mask` of elements of type `source`, widened to those of `spec`; the others are `fill`."""
    if source == spec.dtype:
        return masked_load_ir(builder, pointer, vector_ir(spec), mask, fill, spec.size)
    narrow = ir.VectorType(element(source), spec.lanes)
    nothing = ir.Constant(narrow, None)
    value = masked_load_ir(builder, pointer, narrow, mask, nothing, source.bitwidth // 8)
    return builder.select(mask, widen_ir(builder, value, source, spec.dtype), fill)


def either_ir(builder, condition, likely, other):
    """Values that one of two functions emits."""
    found = []
    with builder.if_else(condition, likely=True) as ways:
        for way, emit in zip(ways, (likely, other), strict=True):
            with way:
                found.append((emit(), builder.block))
    values = [builder.phi(value.type) for value in found[0][0]]
    for emitted, block in found:
        for value, incoming in zip(values, emitted, strict=True):
            value.add_incoming(incoming, block)
    return values


def prefetch_ir(builder, pointer, to_write=False, level=1):
    """Bring a cache line into the cache of a level, for reading or to be written; any address is allowed."""
    line = builder.bitcast(pointer, I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [line.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [line, I32(int(to_write)), I32(4 - level), I32(1)])


def shuffle_ir(builder, a, b, lanes):
    """Lanes of `a` and `b` (numbered on from a's) in the given order."""
    order = ir.Constant(ir.VectorType(I32, len(lanes)), [I32(lane) for lane in lanes])
    return builder.shuffle_vector(a, b, order)


def transpose_ir(builder, rows):
    """Transpose n vectors of n lanes in log2(n) rounds of two-operand shuffles."""
    n, rows, step = len(rows), list(rows), 1
    while step < n:
        low = [lane if not lane & step else n + lane - step for lane in range(n)]
        high = [lane + step if not lane & step else n + lane for lane in range(n)]
        for i in range(n):
            if not i & step:
                a, b = rows[i], rows[i + step]
                rows[i], rows[i + step] = shuffle_ir(builder, a, b, low), shuffle_ir(builder, a, b, high)
        step *= 2
    return rows


def clamp_ir(builder, value, low, high):
    """Limit to [low, high]; written so that a NaN value stays NaN (one instruction a bound on x86)."""
    if _of_integers(value.type):
        value = builder.select(builder.icmp_signed("<", value, low), low, value)
        return builder.select(builder.icmp_signed(">", value, high), high, value)
    value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
    return builder.select(builder.fcmp_ordered(">", value, high), high, value)


def extremum_ir(builder, comparison, kept, new, signed=True):
    """Larger (">") or smaller ("<") of two values or vectors; NaN wins, whichever side it is on.

    The first select is one instruction on x86 and keeps a NaN in `kept`, as any comparison with it is false.
    """
    if _of_integers(kept.type):
        compare = builder.icmp_signed if signed else builder.icmp_unsigned
        return builder.select(compare(comparison, new, kept), new, kept)
    best = builder.select(builder.fcmp_ordered(comparison, new, kept), new, kept)
    return builder.select(builder.fcmp_unordered("uno", new, new), new, best)


@intrinsic
def align_stack(typingctx):
    """Let vectors that do not fit the registers be kept in whole cache lines of the stack.

    The stack is aligned to 16 bytes only, and the compiler spills to it as it is: a vector that lies across two lines
    is stored and loaded so slowly that a depthwise convolution took 350 us on one thread and 60 on another.
    """

    def codegen(context, builder, sig, args):
        with builder.goto_entry_block():
            line = builder.alloca(ir.VectorType(I64, 8))
            line.align = 64
        kind = ir.FunctionType(ir.VoidType(), [line.type])
        builder.asm(kind, "", "r,~{memory}", [line], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def keep_rolled(typingctx):
    """Keep the loop around as it is: the compiler unrolls none with an assembler statement, though it be empty.

    Eight turns in a row gain nothing where one is a dozen instructions on vectors, but take long to compile.
    """

    def codegen(context, builder, sig, args):
        builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def keep_small(typingctx):
    """`keep_rolled` where registers are few, and several channels are a step: what is left over is rare."""

    def codegen(context, builder, sig, args):
        if TARGET.registers < 32:
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


# --- pointers ----------------------------------------------------------------------------------------------------


@infer_global(operator.add)
class _PointerAdd(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)
        return None


@lower_builtin(operator.add, Pointer, types.Integer)
def _pointer_add(context, builder, sig, args):
    return builder.gep(args[0], [args[1]])


@infer_global(operator.getitem)
class _PointerGet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(_computed(args[0].dtype), args[0], types.intp)
        return None


def _computed(dtype):
    """Type of an element once it is read."""
    return types.float32 if isinstance(dtype, Half) else dtype


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _pointer_get(context, builder, sig, args):
    value = builder.load(builder.gep(args[0], [args[1]]), align=sig.args[0].size)
    return widen_ir(builder, value, sig.args[0].dtype, sig.return_type)


@infer_global(operator.setitem)
class _PointerSet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, _computed(args[0].dtype))
        return None


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Any)
def _pointer_set(context, builder, sig, args):
    pointer = sig.args[0]
    value = narrow_ir(builder, args[2], pointer.dtype) if isinstance(pointer.dtype, Half) else args[2]
    builder.store(value, builder.gep(args[0], [args[1]]), align=pointer.size)
    return context.get_dummy_value()


# --- vectors -----------------------------------------------------------------------------------------------------


def _lanewise(op, emit):
    class _Template(AbstractTemplate):
        key = op

        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(op)(_Template)

    @lower_builtin(op, Vector, Vector)
    def _lower(context, builder, sig, args):
        return emit(builder, *args)


_lanewise(operator.add, add_ir)
_lanewise(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_lanewise(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_lanewise(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


#: What `known` has made -> the function that it says the value of.
KNOWN = {}


def known(function):
    """Decorator: what ``function(spec)`` returns, an int or a bool, is a constant of the compiled code."""

    @intrinsic
    def constant(typingctx, spec):
        value = function(spec)
        kind, found = (types.boolean, I1(int(value))) if isinstance(value, bool) else (types.intp, I64(value))
        return kind(spec), lambda context, builder, sig, args: found

    KNOWN[constant] = function
    return constant


@known
def lanes_of(spec):
    """Return the number of lanes of a vector."""
    return spec.lanes


@known
def vectors_of(spec):
    """Return the number of vectors down a tile."""
    return spec.vectors


@known
def width_of(spec):
    """Return the number of columns of a tile."""
    return spec.width


@intrinsic
def scalar(typingctx, spec, value):
    """Convert a number to the element type."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[1], sig.args[1], spec.dtype)

    return spec.dtype(spec, value), codegen


@intrinsic
def splat(typingctx, spec, value):
    """All lanes equal to `value`."""

    def codegen(context, builder, sig, args):
        return splat_ir(builder, context.cast(builder, args[1], sig.args[1], spec.dtype), spec.lanes)

    return Vector(spec.dtype, spec.lanes)(spec, value), codegen


@intrinsic
def range_mask(typingctx, spec, low, high):
    """Lanes l with low <= l < high."""

    def codegen(context, builder, sig, args):
        return range_mask_ir(builder, args[1], args[2], spec.lanes)

    return Mask(spec.lanes)(spec, types.intp, types.intp), codegen


@intrinsic
def load(typingctx, spec, pointer):
    """Load a whole vector, widened to the elements of `spec`."""

    def codegen(context, builder, sig, args):
        value = load_ir(builder, args[1], ir.VectorType(element(pointer.dtype), spec.lanes), pointer.size)
        return widen_ir(builder, value, pointer.dtype, spec.dtype)

    return Vector(spec.dtype, spec.lanes)(spec, pointer), codegen


@intrinsic
def masked_load(typingctx, spec, pointer, mask, fill):
    """Load the lanes in `mask`, widened to the elements of `spec`; the others are those of the vector `fill`."""

    def codegen(context, builder, sig, args):
        return widening_load_ir(builder, spec, pointer.dtype, *args[1:])

    return fill(spec, pointer, mask, fill), codegen


def stored_ir(builder, pointer, value):
    """What is written to a pointer of that type."""
    return narrow_ir(builder, value, pointer.dtype) if isinstance(pointer.dtype, Half) else value


@intrinsic
def store(typingctx, spec, pointer, value):
    """Store a whole vector."""

    def codegen(context, builder, sig, args):
        store_ir(builder, stored_ir(builder, pointer, args[2]), args[1], pointer.size)
        return context.get_dummy_value()

    return types.void(spec, pointer, value), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Return a * b + c in each lane."""
    return a(a, b, c), lambda context, builder, sig, args: fma_ir(builder, *args)


@intrinsic
def clamp(typingctx, value, low, high):
    """Limit each lane to [low, high], keeping NaN."""
    return value(value, low, high), lambda context, builder, sig, args: clamp_ir(builder, *args)


@intrinsic
def even_lanes(typingctx, a, b):
    """Lanes 0, 2, 4, ... of `a` followed by those of `b`."""

    def codegen(context, builder, sig, args):
        return shuffle_ir(builder, *args, range(0, 2 * a.lanes, 2))

    return a(a, b), codegen


@intrinsic
def odd_lanes(typingctx, a, b):
    """Lanes 1, 3, 5, ... of `a` followed by those of `b`."""

    def codegen(context, builder, sig, args):
        return shuffle_ir(builder, *args, range(1, 2 * a.lanes, 2))

    return a(a, b), codegen


@intrinsic
def lane(typingctx, value, index):
    """Return one lane as a scalar."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], args[1])

    return value.dtype(value, types.intp), codegen


@intrinsic
def prefetch(typingctx, pointer):
    """Bring a cache line near, for reading; any address is allowed."""

    def codegen(context, builder, sig, args):
        prefetch_ir(builder, args[0])
        return context.get_dummy_value()

    return types.void(pointer), codegen
