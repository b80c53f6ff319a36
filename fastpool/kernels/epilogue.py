"""What happens to a finished sum on its way to memory: residual, activation, masked store."""

from functools import partial

from llvmlite import ir
from numba.core import cgutils

from fastpool.kernels import simd
from fastpool.kernels.simd import I1, I64
from fastpool.kernels.stores import masked_store_ir, store_some_ir


def _plus_ir(builder, spec, value, residual, mask):
    """Add residual[:] in the lanes of `mask`; the others stay as they are, down to the sign of a zero."""
    element = value.type.element
    nothing = -0.0 if isinstance(element, ir.FloatType | ir.DoubleType) else 0
    fill = ir.Constant(value.type, [ir.Constant(element, nothing)] * value.type.count)
    return simd.add_ir(builder, value, simd.masked_load_ir(builder, residual, value.type, mask, fill, spec.size))


def choose_ir(builder, condition, likely, emit, other):
    """Code that one of two functions emits."""
    with builder.if_else(condition, likely=likely) as ways:
        for way, of_way in zip(ways, (emit, other), strict=True):
            with way:
                of_way()


def for_each_image_ir(builder, images, first, last, arrays, write):
    """Emit a loop over the images that pixels first..last of a tile are of: ``write(first, last, *arrays)``.

    `images` are the number of the tile's first pixel, the pixels of an image, and by how much the next image lies
    further away in each of the `arrays`.
    """
    before, pixels, *gaps = (builder.extract_value(images, i) for i in range(2 + len(arrays)))
    image = builder.sdiv(builder.add(before, first), pixels)
    end_image = builder.add(builder.sdiv(builder.sub(builder.add(before, last), I64(1)), pixels), I64(1))
    with cgutils.for_range(builder, end_image, image) as loop:
        begin = builder.sub(builder.mul(loop.index, pixels), before)
        end = builder.add(begin, pixels)
        begin = builder.select(builder.icmp_signed(">", begin, first), begin, first)
        end = builder.select(builder.icmp_signed("<", end, last), end, last)
        moved = [builder.gep(p, [builder.mul(gap, loop.index)]) for p, gap in zip(arrays, gaps, strict=True)]
        write(begin, end, *moved)


def write_pixels_ir(builder, spec, values, channels, images, first, last, arrays, flags, bounds):
    """Write pixels first..last that are alone in their images: their first `channels` channels lie side by side.

    ``values[pixel]`` are vectors of channels; `arrays` are out and residual, at the first pixel if it were of the first
    image. See `for_each_image_ir` for `images`.
    """
    before, _, *gaps = (builder.extract_value(images, i) for i in range(4))
    no_residual = builder.icmp_signed("==", flags[0], I64(0))
    masks = [simd.range_mask_ir(builder, I64(0), channels, spec.lanes, v * spec.lanes) for v in range(spec.vectors)]
    for pixel, vectors in enumerate(values):
        inside = builder.and_(builder.icmp_signed("<=", first, I64(pixel)), builder.icmp_signed("<", I64(pixel), last))
        with builder.if_then(inside, likely=True):
            number = builder.add(before, I64(pixel))
            starts = [builder.add(builder.mul(gap, number), I64(pixel)) for gap in gaps]
            for v, (value, mask) in enumerate(zip(vectors, masks, strict=True)):
                place, more = (
                    builder.gep(p, [builder.add(start, I64(v * spec.lanes))])
                    for p, start in zip(arrays, starts, strict=True)
                )
                added = partial(_plus_ir, builder, spec, value, more, mask)
                (value,) = simd.either_ir(
                    builder, no_residual, lambda value=value: [value], lambda added=added: [added()]
                )
                write_ir(builder, spec, value, place, None, mask, bounds)


def write_ir(builder, spec, value, out, residual, mask, bounds, count=None, anywhere=False):
    """out[:] = clamp(value + residual[:], *bounds) in the lanes of `mask`; residual and bounds may be None.

    These are the first, unless they may be `anywhere`; `count` is how many, where it is known ahead.
    """
    if residual is not None:
        value = _plus_ir(builder, spec, value, residual, mask)
    if bounds is not None:
        value = simd.clamp_ir(builder, value, *bounds)
    if count is None:
        masked_store_ir(builder, value, out, mask, spec.size, anywhere)
    else:
        store_some_ir(builder, value, out, count, spec.size)


def write_channels_ir(
    builder, spec, values, make_masks, channels, out, residual, pitch, flags, bounds, is_whole, counts, anywhere
):
    """Write the first `channels` of `values`, of which each is a channel: a list of (vector, first pixel).

    Channels are `pitch` apart in out and residual; `flags` say whether there is a residual, and whether there are
    bounds. The usual cases, all channels, are straight code, which the compiler can interleave: a branch for each
    channel cost a third of the time of an output transform. Where stores by mask are slow, that holds of a tile that
    `is_whole`: its vectors have `counts` lanes, the first. Of others, `make_masks()` emits the masks of a channel's
    vectors, which may have lanes `anywhere`, or only the first.
    """
    has_residual, has_bounds = (builder.icmp_signed("!=", flag, I64(0)) for flag in flags)
    no_counts = [None] * len(counts)

    def write_found(value, offset, mask, with_residual, with_bounds, count):
        more = builder.gep(residual, [offset]) if with_residual is not False else None
        if with_residual is None:  # known at run time only
            # Not by an empty mask: where there is no memory, a load of nothing takes 180 cycles on Zen 3.
            plain, before = value, builder.block
            with builder.if_then(has_residual, likely=False):
                added, after = _plus_ir(builder, spec, plain, more, mask), builder.block
            value = builder.phi(plain.type)
            value.add_incoming(plain, before)
            value.add_incoming(added, after)
            more = None
        place = builder.gep(out, [offset])
        write_ir(builder, spec, value, place, more, mask, bounds if with_bounds else None, count, anywhere)

    def write(channel, masks, with_residual, with_bounds, counts):
        for (value, pixel), mask, count in zip(values[channel], masks, counts, strict=True):
            offset = builder.add(builder.mul(pitch, I64(channel)), I64(pixel))
            write_found(value, offset, mask, with_residual, with_bounds, count)

    def write_all(masks, with_residual, with_bounds, counts):
        for channel in range(len(values)):
            write(channel, masks, with_residual, with_bounds, counts)

    def complete(masks, counts):
        choose_ir(
            builder,
            has_residual,
            False,
            lambda: write_all(masks, True, True, counts),
            lambda: choose_ir(
                builder,
                has_bounds,
                None,
                lambda: write_all(masks, False, True, counts),
                lambda: write_all(masks, False, False, counts),
            ),
        )

    def some_channels(masks):
        # Rare: one way for all, as each takes its time to compile. Bounds that are open change nothing, and neither
        # does a residual of nothing.
        for channel in range(len(values)):
            with builder.if_then(builder.icmp_signed("<", I64(channel), channels), likely=True):
                write(channel, masks, None, True, no_counts)

    def one_by_one():
        # A loop, as stores in pieces are much code: the vectors are put on the stack.
        kind, each, masks = values[0][0][0].type, len(counts), make_masks()
        with builder.goto_entry_block():
            stack = builder.alloca(ir.ArrayType(kind, len(values) * each))
            stack.align = 64
        first_of = lambda index: builder.gep(stack, [I64(0), index])  # noqa: E731
        for index, (value, _) in enumerate(vector for of_channel in values for vector in of_channel):
            builder.store(value, first_of(I64(index)), align=spec.size)
        missing = builder.icmp_signed("<", channels, I64(len(values)))
        with cgutils.for_range(builder, builder.select(missing, channels, I64(len(values)))) as loop:
            start = builder.mul(pitch, loop.index)
            for number, ((_, pixel), mask) in enumerate(zip(values[0], masks, strict=True)):
                index = builder.add(builder.mul(loop.index, I64(each)), I64(number))
                value, offset = builder.load(first_of(index), align=spec.size), builder.add(start, I64(pixel))
                write_found(value, offset, mask, None, True, None)

    is_complete = builder.icmp_signed(">=", channels, I64(len(values)))
    if simd.HAS_MASKS:
        masks = make_masks()
        choose_ir(builder, is_complete, True, lambda: complete(masks, no_counts), lambda: some_channels(masks))
    else:
        # Masks take long to make, and are made where they are needed only.
        lanes = values[0][0][0].type.count
        masks = [ir.Constant(ir.VectorType(I1, lanes), [lane < count for lane in range(lanes)]) for count in counts]
        choose_ir(builder, builder.and_(is_complete, is_whole), True, lambda: complete(masks, counts), one_by_one)
