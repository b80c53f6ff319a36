"""Where each value of a plan stands: views share memory, concatenations are written in place, buffers are used again.

Values that share memory form a group. A group is a part of the arena, an input, an output (made anew in each run, as it
belongs to the caller) or a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastpool.arrays import ALIGNMENT
from fastpool.onnx.ops.operator import Kernel, Value

ARENA, GIVEN, RESULT = "arena", "given", "result"


@dataclass
class Group:
    """Values that share memory, each at its byte offset."""

    kind: str
    nbytes: int
    members: dict[str, int] = field(default_factory=dict)
    place: int = 0  #: in the arena


@dataclass
class Step:
    """A kernel with the names of its values; `outputs` include the scratch."""

    kernel: Kernel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str
    op: str
    merged: tuple[str, ...] = ()


@dataclass
class Layout:
    """Groups by value, and the size of the arena."""

    groups: dict[str, Group]
    arena_bytes: int


def lay_out(steps: Sequence[Step], values: Mapping[str, Value], given: Sequence[str], results: Sequence[str]) -> Layout:
    """Place all values of the steps; `given` are inputs and constants, `results` are handed out."""
    groups: dict[str, Group] = {}
    for name in given:
        groups[name] = Group(GIVEN, values[name].nbytes, {name: 0})
    last_use = _last_uses(steps, results)
    for index, step in enumerate(steps):
        for name in step.outputs:
            if name:
                kind = RESULT if name in results else ARENA
                groups[name] = Group(kind, values[name].nbytes, {name: 0})
        if not step.outputs or not step.outputs[0]:
            continue
        out = step.outputs[0]
        if step.kernel.is_view:
            _join(groups, step.inputs[0], out, 0)
        elif step.kernel.joins:
            for name, offset in zip(step.inputs, step.kernel.joins, strict=True):
                _place_within(groups, name, values[name], out, offset)
        else:
            for position in step.kernel.overwrites:
                if _overwrite(groups, step, step.inputs[position], out, index, last_use):
                    break
    return Layout(groups, _pack(steps, groups, last_use))


def _last_uses(steps: Sequence[Step], results: Sequence[str]) -> dict[str, int]:
    last = {name: index for index, step in enumerate(steps) for name in (*step.inputs, *step.outputs) if name}
    return last | dict.fromkeys(results, len(steps))


def _merge(groups: dict[str, Group], group: Group, into: Group, offset: int) -> None:
    for name, place in group.members.items():
        into.members[name] = place + offset
        groups[name] = into
    if group.kind == RESULT:
        into.kind = RESULT


def _join(groups: dict[str, Group], source: str, out: str, offset: int) -> None:
    """A view is where its source is, unless the caller gets it and the source is not ours to give."""
    group, own = groups[source], groups[out]
    if own.kind == RESULT and (group.kind != ARENA or group.nbytes != own.nbytes):
        return
    _merge(groups, own, group, group.members[source] + offset)


def _place_within(groups: dict[str, Group], name: str, value: Value, out: str, offset: int) -> None:
    """An operand of a concatenation is computed where the result will have it, if nothing else decides its place."""
    group, target = groups[name], groups[out]
    if group is target or group.kind != ARENA or group.nbytes != value.nbytes:
        return
    _merge(groups, group, target, target.members[out] + offset)


def _overwrite(
    groups: dict[str, Group], step: Step, name: str, out: str, index: int, last_use: Mapping[str, int]
) -> bool:
    """An operand that nothing needs afterwards gives its place to the result."""
    group, target = groups[name], groups[out]
    if group.kind != ARENA or group.nbytes != target.nbytes or step.inputs.count(name) > 1:
        return False
    if any(last_use[member] > index for member in group.members):
        return False
    others = [other for other in step.inputs if other and other != name]
    if any(groups[other] is group for other in others):
        return False
    _merge(groups, group, target, 0)
    return True


def _pack(steps: Sequence[Step], groups: Mapping[str, Group], last_use: Mapping[str, int]) -> int:
    """Give each group of the arena a place that no other has at the same time: the largest first, as low as it fits."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    found: dict[int, Group] = {}
    for index, step in enumerate(steps):
        for name in step.outputs:
            if not name:
                continue
            group = groups[name]
            if group.kind == ARENA:
                key = id(group)
                found[key] = group
                first[key] = min(first.get(key, index), index)
                last[key] = max(last.get(key, 0), *(last_use[member] for member in group.members))
    placed: list[int] = []
    total = 0
    for key in sorted(found, key=lambda key: (-found[key].nbytes, first[key])):
        size = found[key].nbytes
        place = 0
        rivals = [other for other in placed if first[other] <= last[key] and first[key] <= last[other]]
        for other in sorted(rivals, key=lambda other: found[other].place):
            if place + size <= found[other].place:
                break
            place = max(place, _aligned(found[other].place + found[other].nbytes))
        found[key].place = place
        placed.append(key)
        total = max(total, place + size)
    return _aligned(total)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
