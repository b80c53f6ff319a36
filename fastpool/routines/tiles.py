"""Tile and block sizes for the processor: numbers as data, each with its arithmetic.

A register tile of ``vectors x width`` accumulators needs ``vectors * width`` registers, one for each vector of the
other operand and one for the broadcast scalar. It must fit (a spilled tile runs at 40 % of peak), and it needs at
least ``latency * FMAs per cycle`` = 4 * 2 = 8 independent accumulators to keep the units busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fastpool.machine.processor import NAME, TARGET, THREADS

#: Whether it is a Zen 5 with AVX-512, which multiplies two whole vectors in a cycle, but does not load as many.
IS_ZEN_5 = NAME == "znver5" and TARGET.vector_bytes == 64
#: Bytes of a level-1 cache, and those that come from the level-2 cache in a cycle: of weights, and of both operands.
LEVEL_1_BYTES, _WEIGHT_BYTES, _NEAR_BYTES = 32 * 1024, 24, 36 if IS_ZEN_5 else 24
#: Cycles to load a vector of pixels. One of 64 bytes that lies anywhere meets two cache lines, and Zen 4 loads it in
#: halves: 1x1 from 50 to 70 channels of 57x57 takes 11.8 cycles a step by 4x2, 10.6 by 4x1 and 5.7 by 2x1.
_PIXELS_CYCLES = (2.6 if TARGET.multiplies == 1 else 2.1 if IS_ZEN_5 else 1.0) if TARGET.vector_bytes == 64 else 0.5
#: The same where filters of several taps see a line again, of up to three vectors and of four. On Zen 5 a step takes
#: 8.9 to 9.6 cycles by 2x8 then, by 2x14 14.8 to 15.8, by 3x8 12.5 to 13.7, by 4x3 8.7 to 9.3, by 4x4 9.6 to 10.8, and
#: by 2x14 with lanes on channels 13.2 to 15.4.
_SEEN_CYCLES = (1.1, 1.5) if IS_ZEN_5 else (_PIXELS_CYCLES,) * 2
#: What else Zen 5's loads take: to begin a step, and a scalar; and the power of the norm by which all of them stand
#: beside the multiply-adds. Fitted to the times of 105 layers by each tile, whose steps took so many: by 2x14 16.1,
#: by 2x7 8.7, by 1x14 12.2, by 1x8 7.5; by 2x8 with lanes on pixels 11.4, by 3x8 15.0. A layer then takes 2.6 % longer
#: than by the best tile, and by the estimate for others, where loads hide, 5 %.
_BEGIN_LOADS, _SCALAR_CYCLES, _LOADS_POWER = 0.9, 0.71, 3.0
#: Taps of a row up to which a tile of two vectors steps over the weights of three: of 7, its sums would not stay in
#: registers.
_MOST_TAPS_BESIDE_THREE = 5


def may_be_last(vectors: int, row_taps: int) -> bool:
    """Whether a tile of so many vectors of channels may be the last one beside others of more; see `TileShape.last`."""
    return vectors == 1 or (vectors == 2 and IS_ZEN_5 and row_taps <= _MOST_TAPS_BESIDE_THREE)


@dataclass(frozen=True)
class TileShape:
    """A register tile of the direct convolution: role of the lanes, vectors, width."""

    role: str  #: "channels" or "pixels"
    vectors: int
    width: int

    def block(self, lanes: int) -> int:
        """Output channels of a tile."""
        return self.vectors * lanes if self.role == "channels" else self.width

    def last(self, channels: int, lanes: int, row_taps: int) -> TileShape:
        """Tile of the last block of so many channels: of fewer vectors, if they hold what others have left.

        3x3 at stride 2 from 176 to 48 channels of 17x20 takes 25 % less time so, from 384 to 72 of 35x35 11 %.
        """
        vectors = -(-(channels % self.block(lanes)) // lanes)
        has_fewer = self.role == "channels" and self.vectors in (2, 3) and TARGET.registers == 32
        is_less = has_fewer and 0 < vectors < self.vectors and channels > self.block(lanes)
        return TileShape(self.role, vectors, self.width) if is_less and may_be_last(vectors, row_taps) else self

    def pixels(self, lanes: int) -> int:
        """Output pixels of a tile."""
        return self.width if self.role == "channels" else self.vectors * lanes

    @cached_property
    def step_cycles(self) -> float:
        """Cycles of one reduction step: two loads a cycle, and four cycles from one multiply-add to its next.

        Weights of channels come from the level-2 cache: tiles of few pixels wait for them. Eight accumulators, of 16
        registers, leave no slack: 2x4 has 0.60 to 0.66 of the peak where 2x6 has 0.66 to 0.72. Loads of four vectors of
        64 bytes do not hide behind as many multiply-adds: 1x1 from 78 to 38 channels of 40x40 takes 15.7 cycles a step
        by 4x3, 17.6 by 2x8; 37 such layers took 0.98 of the time without most of these tiles.
        """
        return self._step_cycles(_PIXELS_CYCLES)

    @cached_property
    def seen_cycles(self) -> float:
        """The same of filters of several taps, which see a line again that was loaded for another one."""
        return self._step_cycles(_SEEN_CYCLES[self.vectors == 4])

    def _step_cycles(self, of_pixels: float) -> float:
        """Cycles of a step, so many of them for a vector of pixels."""
        latency = 4.0 if TARGET.registers == 32 else 4.5
        is_by_channels = self.role == "channels"
        of_vector = 0.5 if is_by_channels else of_pixels
        weights = self.vectors * TARGET.vector_bytes / _WEIGHT_BYTES if is_by_channels else 0.0
        sums = self.vectors * self.width / TARGET.multiplies
        if IS_ZEN_5:
            loads = _BEGIN_LOADS + of_vector * self.vectors + _SCALAR_CYCLES * self.width
            beside = float((max(sums, latency) ** _LOADS_POWER + loads**_LOADS_POWER) ** (1 / _LOADS_POWER))
            return max(beside, weights)
        loads = of_vector * self.vectors + self.width / 2
        if self.role == "pixels" and self.vectors == 4 and TARGET.vector_bytes == 64:
            sums = (sums**4 + loads**4) ** 0.25
        return max(sums, loads, latency, weights)

    def step_bytes(self, pitch: int) -> int:
        """Bytes of the lines that a step of one tap loads: of packed weights, and of pixels `pitch` bytes apart."""
        lane_bytes = self.vectors * TARGET.vector_bytes
        return lane_bytes + (self.width * pitch if self.role == "pixels" else 64 + (self.width - 1) * pitch)

    def far_cycles(self, pitch: int) -> float:
        """The same where all that comes from the level-2 cache, not entirely beside the multiply-adds.

        1x1 on 7x7, 49 pixels, takes 6 to 12 % less by five tiles of 2x10 than by seven of 2x7, from 300 to 1024, 1024
        to 1024 and 2048 to 384 channels; from 768 to 512 of 20x20 4 % less by 2x13 than by 1x8 with lanes on pixels,
        whose loads meet two lines each; from 768 to 80 of 25x25 4 % more by 2x8 so than by 1x11 of channels.
        """
        power = 3.0 if self.role == "channels" else 2.0
        return float((self.step_cycles**power + (self.step_bytes(pitch) / _NEAR_BYTES) ** power) ** (1 / power))

    def store_cycles(self, lanes: int) -> float:
        """Cycles to begin and finish a tile: 5.5 a stored vector (1x1, 16 to 512 channels: 5.2 to 6, either role)."""
        if self.role == "pixels":
            return 5.5 * self.vectors * self.width + 10
        return 5.5 * self.vectors * -(-self.width // lanes) * lanes + 10


#: For 16 registers: widths of two vectors of channels, and shapes of pixels. Without fused multiply-adds the product
#: takes a register of its own, and with SSE's two operands so does a copy.
_NARROW = (
    ((6, 5, 4), ((3, 4), (2, 4), (2, 6), (1, 8), (4, 2), (4, 1), (2, 1), (1, 1)))
    if TARGET.has_fma
    else ((4, 3), ((2, 4), (1, 8), (4, 2), (4, 1), (2, 1), (1, 1)))
)

#: Tiles by number of vector registers. 2x14 uses 28 + 2 + 1 of 32; 2x6 uses 12 + 2 + 1 of 16. Narrower ones are for
#: rows that a wide tile does not divide (on 13x13, 13 pixels take 16 to 25 % less than 14; on 17x17, 2 of 9 take 9 %
#: less than 2 of 10) and for few channels; four vectors of channels are for maps of few pixels,
#: where weights are most of what is read (1x1 on one pixel, 2048 -> 1000: 245 us by 2x7, 67 by 4x1). Three vectors are
#: for Zen 5, as of the loads that do not hide there fewer are scalars: 3x3 at stride 2 over 384 channels of 14x14 takes
#: 3 to 15 % less by 3x7 than by 2x7, 5x5 from 128 to 240 7 %. With lanes on pixels, 14, 12 and 10 channels are for as
#: few of the result: 11x11 at stride 2 from 3 to 13 of 224x224 takes 0.64 of the time, 7x7 from 13 to 14 of 30x30 0.75.
TILE_SHAPES = {
    32: tuple(TileShape("channels", 3, width) for width in ((9, 8, 7) if IS_ZEN_5 else ()))
    + tuple(TileShape("channels", 2, width) for width in (14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3))
    + tuple(TileShape("channels", 1, width) for width in (14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3))
    + tuple(TileShape("channels", 4, width) for width in (1, 4))
    + tuple(
        TileShape("pixels", *shape)
        for shape in (
            *((3, 8), (2, 8), (1, 8), (3, 6), (4, 4), (4, 3), (4, 2), (4, 1), (2, 1), (1, 1)),
            *((2, 14), (2, 12), (2, 10)),
        )
    ),
    16: tuple(TileShape("channels", 2, width) for width in _NARROW[0])
    + tuple(TileShape("pixels", *shape) for shape in _NARROW[1]),
}

#: Outputs of a depthwise run with lanes on channels: an accumulator each, and a register for the weights.
RUNS = {32: (14, 8, 7, 4), 16: (8, 7, 4)}[TARGET.registers]

#: Processors without AVX-512, or on which it is switched off, whose cores have level-2 caches of 1 MB and more.
_LARGE_CACHES = ("znver4", "znver5", "alderlake", "raptorlake", "meteorlake", "arrowlake", "arrowlake-s", "lunarlake")
#: Bytes of the level-2 cache of a core: those of Zen 4 and of Intel's servers have 1 MB and more, Zen 2 and 3 half. On
#: a Zen 4 without AVX-512, 3x3 from 128 to 128 channels of 112x112 takes 9.7 ms if half is thought of, and 7.3.
LEVEL_2_BYTES = (1024 if TARGET.name == "avx512" or NAME in _LARGE_CACHES else 512) * 1024
#: Bytes of packed input that a task keeps for itself: half of the cache, beside the weights that stream past it.
PRIVATE_BYTES = LEVEL_2_BYTES // 2
#: The same of one row, which is cut into columns beyond that. More than half of an L2, as each of the pieces reads all
#: weights: 3x3 over 2048 channels of 100x100 has 110 GFLOP/s in pieces of 512 kB, and 165 in pieces of 1 to 4 MB; with
#: 512 channels, less weight and longer rows, 186 from 512 kB to 4 MB, 165 with 8 MB and 126 with 16.
PRIVATE_ROW_BYTES = 3 * 1024 * 1024
#: Bytes of packed input up to which all threads share one copy: it stays in the last-level cache.
SHARED_BYTES = 2 * 1024 * 1024
#: Bytes of scratch that no plan exceeds, for each thread: whatever the shape, a call needs little more than its arrays.
#: With what lies between two threads (`plans.plan`) that is 16 MiB.
SCRATCH_LIMIT = 16 * 1024 * 1024 - 4096
#: More than this is never taken for the shared copy: tiles may read a little beyond its end.
SHARED_LIMIT = SCRATCH_LIMIT - 4096
#: Tasks that a plan aims at: enough that eight threads end together (the last task of one costs 1/8 of its share).
TASKS = 64
#: Bytes of transformed tiles and products that a task of the Winograd convolution keeps in the level-2 cache.
WINOGRAD_PRIVATE_BYTES = LEVEL_2_BYTES * 5 // 8
#: Bytes of input or output that are likely to come from the last-level cache: half of 32 MB.
CACHED_BYTES = 16 * 1024 * 1024
#: Tasks of a direct convolution, four a thread: 1x1 64->256 on 56x56 takes 1046 us in 64 tasks and 802 in 8, as a task
#: reads its pixels from memory in strips of the channels, which the hardware foresees the better the longer they are.
DIRECT_TASKS = max(8, 4 * THREADS)


def even_shares(tasks: int, threads: int = THREADS) -> float:
    """Factor by which the time grows because equal tasks cannot be shared evenly among the threads."""
    return -(-tasks // threads) * threads / tasks
