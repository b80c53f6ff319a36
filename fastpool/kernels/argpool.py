"""Max and min pooling that also tell where: an element at a time, as PyTorch orders them."""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels.pool import neutral
from fastpool.kernels.simd import scalar
from fastpool.routines.pool import operation_of


def argpool(call, task, thread):
    """Extremum and where it stands (index within the plane): ties the first, NaN the last."""
    spec = call.spec
    plane_task, row_task = task // call.row_tasks, task % call.row_tasks
    first_plane = plane_task * call.planes_per_task
    end_plane = min(first_plane + call.planes_per_task, call.planes)
    rows = call.out_depths * call.out_rows
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, rows)
    columns, column_step, row_step, depth_step = call.out_columns, call.column_step, call.row_step, call.depth_step
    for plane_index in range(first_plane, end_plane):
        image, channel = plane_index // call.channels, plane_index % call.channels
        plane = call.x + (image * call.x_batch + channel * call.x_channel)
        for row in range(first_row, end_row):
            od, oh = row // call.out_rows, row % call.out_rows
            depth0, depths, row0, taps = (
                call.depth_first[od],
                call.depth_count[od],
                call.row_first[oh],
                call.row_count[oh],
            )
            for q in range(columns):
                column0, kernel_size = call.column_first[q], call.column_count[q]
                best = neutral(spec)
                where = (depth0 * call.height + row0) * call.width + column0
                if depths * taps * kernel_size == 0:
                    where = 0  # the window sees padding only
                for d in range(depths):
                    for r in range(taps):
                        source_depth, source_row = depth0 + d * depth_step, row0 + r * row_step
                        at = plane + (source_depth * call.x_depth + source_row * call.x_row)
                        for k in range(kernel_size):
                            column = column0 + k * column_step
                            value = scalar(spec, at[column * call.x_column])
                            if _wins(spec, value, best):
                                best = value
                                where = (source_depth * call.height + source_row) * call.width + column
                place = (plane_index * rows + row) * columns + q
                call.out[place] = best
                call.indices[place] = where


@intrinsic
def _wins(typingctx, spec, new, best):
    """Whether `new` replaces `best`: better, or NaN."""

    def codegen(context, builder, sig, args):
        _, new, best = args
        comparison = ">" if operation_of(spec) == "max" else "<"
        if isinstance(spec.dtype, types.Integer):
            compare = builder.icmp_signed if spec.dtype.signed else builder.icmp_unsigned
            return compare(comparison, new, best)
        better = builder.fcmp_ordered(comparison, new, best)
        return builder.or_(better, builder.fcmp_unordered("uno", new, new))

    return types.boolean(spec, new, best), codegen
