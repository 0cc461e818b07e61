"""What a compiled program sends from device to device, read in its text: every collective, as often as it runs."""

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One of `KINDS` in a program."""

    kind: str
    result: int  # bytes that a device holds of it afterwards
    group: int  # devices that it joins
    times: int  # runs in one call of the program

    @property
    def sent(self) -> float:
        """Bytes that each device sends in all its runs, if they go around a ring: the least that is possible.

        See Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations" (2009).
        """
        others = self.group - 1
        factor = {
            "all-reduce": 2 * others / self.group,
            "all-gather": others / self.group,
            "reduce-scatter": others,  # the result is one part of many
            "all-to-all": others / self.group,
            "collective-permute": 1,
        }
        return self.times * self.result * factor[self.kind]


def collectives(program: str) -> list[Collective]:
    """All collectives of a program, the text of a `jax.stages.Compiled`, for its longest branches.

    Raises:
      ValueError: one runs in a loop of unknown length.
    """
    computations, entry = _computations(program)
    devices = math.prod(int(count) for count in re.findall(r"(?:num_partitions|replica_count)=(\d+)", program))

    def of(name: str, times: int) -> Iterator[Collective]:
        for result, opcode, rest in computations[name]:
            kind = opcode.removesuffix("-start")
            if kind in KINDS:
                yield Collective(kind, _bytes(result, opcode), _group_size(rest, devices), times)
            called = dict(re.findall(r"(\w+)=%?([\w.\-]+)", rest))
            if opcode == "while":
                yield from of_loop(called, rest, times)
            elif opcode == "conditional":
                branches = re.search(r"branch_computations=\{(.*?)\}", rest)
                names = re.findall(r"[\w.\-]+", branches[1]) if branches else []
                names += [called[key] for key in ("true_computation", "false_computation") if key in called]
                yield from max(([*of(name, times)] for name in names), key=lambda found: sum(c.sent for c in found))
            else:
                for key in ("calls", "to_apply"):
                    if key in called:
                        yield from of(called[key], times)

    def of_loop(called: dict[str, str], rest: str, times: int) -> Iterator[Collective]:
        length = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', rest)
        inside = [*of(called["body"], times * int(length[1]) if length else 0)]
        if inside and not length:
            raise ValueError(f"a loop of unknown length has a collective: {rest}")
        yield from inside

    return [*of(entry, 1)]


def _computations(program: str) -> tuple[dict[str, list[tuple[str, str, str]]], str]:
    """The instructions of each computation, (type of the result, opcode, operands and attributes); the first one."""
    computations, entry, current = {}, None, []
    for line in re.sub(r"/\*.*?\*/", "", program).splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif instruction := re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\((.*)", line):
            current.append(instruction.groups())
    return computations, entry


def _bytes(result: str, opcode: str) -> int:
    """Of an array `f32[8,4]{1,0}` or of a tuple of such."""
    arrays = re.findall(r"([a-z]+)(\d*)\w*\[([\d,]*)\]", result)
    if opcode.endswith("-start"):
        # Beside its results, it names its operands, and sometimes two counters.
        arrays = [array for array in arrays if array != ("u", "32", "")]
        arrays = arrays if opcode == "all-reduce-start" else arrays[len(arrays) // 2 :]
    bits = {"pred": 8}
    sizes = [bits.get(kind) or int(width) for kind, width, _ in arrays]
    counts = [math.prod(int(side) for side in shape.split(",") if side) for *_, shape in arrays]
    return sum(size * count for size, count in zip(sizes, counts)) // 8


def _group_size(attributes: str, devices: int) -> int:
    if groups := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(groups[1])
    if groups := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):  # of newer versions
        sizes = {axis: int(size) for axis, size in re.findall(r"'([^']+)'=(\d+)", groups[1])}
        return math.prod(sizes[axis] for axis in re.findall(r"'([^']+)'", groups[2]))
    if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(groups[1].split(","))
    return devices
