"""Reading of x86 assembly: basic blocks, innermost loops, and what their instructions do to vector registers."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastpool.machine.processor import TARGET

ON_X86 = platform.machine().lower() in ("x86_64", "amd64")
#: Name of the vector registers of each width.
REGISTERS = {64: "zmm", 32: "ymm", 16: "xmm"}
REGISTER = REGISTERS[TARGET.vector_bytes]

_FUSED = r"fn?m(?:add|sub)\d+"
_FLOATING = rf"add|sub|mul|div|max|min|sqrt|{_FUSED}|cmp\w*"
#: Arithmetic of floats on packed elements; of integers, whose names begin with p and which have no scalar form.
_PACKED = re.compile(rf"v?(?:(?:{_FLOATING})p[sd]|p(?:add|sub|mul\w*|max[su]|min[su]|cmp\w*)[bwdq])\s")
_SCALAR = re.compile(rf"v?(?:{_FLOATING}|ucomi|comi)s[sd]\s")
_STACK = re.compile(r"\(%rsp[,)]")


def blocks(assembly: str) -> list[tuple[str, list[str]]]:
    """Basic blocks: (label or "", instructions)."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in assembly.splitlines():
        label = re.match(r"^([.\w$\"]+):", line)
        instruction = line.strip()
        if label:
            found.append((label[1], []))
        elif instruction and not instruction.startswith((".", "#")):
            found[-1][1].append(instruction)
            if instruction.startswith("j"):
                found.append(("", []))
    return [(label, lines) for label, lines in found if lines]


def straight_loops(assembly: str) -> list[list[str]]:
    """Innermost loops without branches: blocks that end with a jump to their own beginning."""
    return [lines for label, lines in blocks(assembly) if label and re.fullmatch(rf"j\w+\s+{label}", lines[-1])]


def _components(nodes: set[int], edges: dict[int, list[int]]) -> Iterator[set[int]]:
    """Sets of nodes that reach one another, single nodes only where they reach themselves."""

    def reached(start: int, edges: dict[int, list[int]]) -> set[int]:
        seen: set[int] = set()
        waiting = [start]
        while waiting:
            for node in edges.get(waiting.pop(), ()):
                if node in left and node not in seen:
                    seen.add(node)
                    waiting.append(node)
        return seen

    backwards: dict[int, list[int]] = {}
    for source, targets in edges.items():
        for target in targets:
            backwards.setdefault(target, []).append(source)
    left = set(nodes)
    while left:
        start = min(left)
        together = reached(start, edges) & reached(start, backwards)
        if together:
            yield together
        left -= together | {start}


def loops(assembly: str, innermost: bool = True) -> list[list[str]]:
    """Instructions of each loop that has none inside, or of each without those of the loops inside; no cold branches.

    Cold is what leads to a call: blocks that call are taken out first, and with them whatever is then on no way around
    a loop. A loop that cannot be gone around without a call is none.
    """
    found = blocks(assembly)
    places = {label: index for index, (label, _) in enumerate(found) if label}
    edges: dict[int, list[int]] = {}
    for index, (_, lines) in enumerate(found):
        operation, _, target = lines[-1].partition("\t")
        edges[index] = [places[target.strip()]] if operation.startswith("j") and target.strip() in places else []
        if not operation.startswith(("jmp", "ret", "ud2")) and index + 1 < len(found):
            edges[index].append(index + 1)
    calling = {index for index, (_, lines) in enumerate(found) if any(line.startswith("call") for line in lines)}
    bodies, waiting = [], list(_components(set(edges) - calling, edges))
    while waiting:
        loop = waiting.pop()
        heads = {b for a, targets in edges.items() if a not in loop | calling for b in targets if b in loop}
        inner = list(_components(loop - (heads or {min(loop)}), edges))
        waiting += inner
        if not (innermost and inner):
            bodies.append(sorted(loop.difference(*inner)))
    return [[line for index in body for line in found[index][1]] for body in sorted(bodies)]


@dataclass(frozen=True)
class Loop:
    """What a loop does, counted in instructions."""

    lines: list[str]
    vectors: int  #: arithmetic on vectors of the full width
    narrower: int  #: arithmetic on packed floats in narrower registers; integers there are masks
    scalars: int  #: arithmetic on single floats
    fused: int  #: fused multiply-adds on vectors of the full width
    moved: int  #: vectors of the full width to or from memory other than the stack
    spilled: int  #: vectors, of any width, to the stack
    reloaded: int  #: vectors, of any width, from the stack

    @property
    def work(self) -> int:
        """Elements computed in one turn, a narrower vector's taken for half of a full one's."""
        lanes = TARGET.vector_bytes // 4
        return lanes * self.vectors + lanes // 2 * self.narrower + self.scalars


def _count(lines: Iterable[str], *patterns: str | re.Pattern[str]) -> int:
    return sum(all(re.search(pattern, line) for pattern in patterns) for line in lines)


def examine(lines: list[str]) -> Loop:
    """Count what the instructions do. A comparison that ends in a mask register still names its vectors."""
    packed = [line for line in lines if _PACKED.match(line)]
    full = _count(packed, rf"%{REGISTER}\d")
    memory = [line for line in lines if re.search(r"\(%", line) and re.search(r"%[xyz]mm\d", line)]
    on_stack = [line for line in memory if _STACK.search(line)]
    return Loop(
        lines=lines,
        vectors=full,
        narrower=_count(packed, r"^v?[^p\s]\w*p[sd]\s") - _count(packed, r"^v?[^p\s]\w*p[sd]\s", rf"%{REGISTER}\d"),
        scalars=sum(bool(_SCALAR.match(line)) for line in lines),
        fused=_count(packed, rf"^v{_FUSED}p[sd]\s", rf"%{REGISTER}\d"),
        moved=_count(memory, rf"%{REGISTER}\d") - _count(on_stack, rf"%{REGISTER}\d"),
        spilled=sum(line.endswith("(%rsp)") for line in on_stack),
        reloaded=sum(not line.endswith("(%rsp)") for line in on_stack),
    )
