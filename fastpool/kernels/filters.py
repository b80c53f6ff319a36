"""Winograd's transform of filters, G g G^T: ahead, of all weights, or on the fly, of a part in each task."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd, transforms
from fastpool.kernels.channels import is_folded
from fastpool.kernels.simd import I64, lanes_of
from fastpool.kernels.winograd_forms import along, filter_of, filter_taps, fold_of, products_of, sizes_of
from fastpool.routines.winograd import PHASES


@intrinsic
def _transform_filters(typingctx, spec, source, tap_pitch, target, product_pitch, phase_pitch):
    """G g G^T of one vector of filters, for each phase; where phases are channels, one by one in a loop."""

    def codegen(context, builder, sig, args):
        _, source, tap_pitch, target, product_pitch, phase_pitch = args
        vector, taps, (down, across) = simd.vector_ir(spec), along(spec, spec.width), sizes_of(spec)
        outputs, (size, stride) = along(spec, spec.vectors), filter_of(spec)
        kernel = along(spec, size)

        def tap(row, column):
            within = [
                builder.icmp_signed("<", index, I64(end)) for index, end in zip((row, column), kernel, strict=True)
            ]
            place = builder.add(builder.mul(row, I64(kernel[1])), column)
            mask = builder.select(builder.and_(*within), everything, ir.Constant(everything.type, None))
            place = builder.gep(source, [builder.mul(tap_pitch, place)])
            return simd.masked_load_ir(builder, place, vector, mask, ir.Constant(vector, None), spec.size)

        everything = ir.Constant(ir.VectorType(ir.IntType(1), spec.lanes), [1] * spec.lanes)

        def transform(phase, row_phase, column_phase):
            columns = []
            for j in range(taps[1]):
                column = builder.add(column_phase, I64(j * stride))
                loaded = [tap(builder.add(row_phase, I64(i * stride)), column) for i in range(taps[0])]
                columns.append(transforms.weights_ir(builder, outputs[0], loaded))
            start = builder.gep(target, [builder.mul(phase_pitch, phase)])
            for i in range(down):
                row = transforms.weights_ir(builder, outputs[1], [column[i] for column in columns])
                for j, value in enumerate(row):
                    place = builder.gep(start, [builder.mul(product_pitch, I64(i * across + j))])
                    simd.store_ir(builder, value, place, spec.size)

        if is_folded(spec):
            with cgutils.for_range(builder, I64(stride**2)) as loop:
                transform(loop.index, *(f(loop.index, I64(stride)) for f in (builder.udiv, builder.urem)))
        else:
            for phase, place in enumerate(PHASES[along(spec, stride)]):
                transform(I64(phase), *map(I64, place))
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, number, target, number, number), codegen


def transform_filters(call, source, target, first):
    """Transform the packed weights [channel][tap][2 * lanes] of one out block, a part of its blocks of channels."""
    simd.align_stack()
    spec = call.spec
    lanes, taps = lanes_of(spec), filter_taps(spec)
    block = 2 * lanes
    channels = min(call.part_blocks * lanes, call.channels - first * lanes)
    phase_pitch = (channels + lanes - 1) // lanes * lanes * block
    for channel in range(channels):
        for half in range(0, block, lanes):
            taps_of, place = source + (channel * taps * block + half), target + (channel * block + half)
            _transform_filters(spec, taps_of, block, place, call.u_product, phase_pitch)


def winograd_weights(call, task, thread):
    """Transform the packed weights [out block][channel][tap][2 * lanes] of one out block into U."""
    simd.align_stack()
    spec = call.spec
    lanes, taps, fold = lanes_of(spec), filter_taps(spec), fold_of(spec)
    block = 2 * lanes
    phase_pitch = block if fold > 1 else call.padded_channels * block
    for channel in range(call.channels):
        source = call.weights + (task * call.channels + channel) * taps * block
        target = call.out + (task * products_of(spec) * call.u_product + channel * fold * block)
        for half in range(0, block, lanes):
            _transform_filters(spec, source + half, block, target + half, call.u_product, phase_pitch)
