"""An optimised HLO module, read from its text: what it executes, how often, and the bytes that it reads and writes."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>\S+) = (?P<shape>.*?) (?P<opcode>[a-z][a-z0-9\-]*)\((?P<rest>.*)$")
_CALL = re.compile(r"(?:calls|to_apply|body|called_computations=\{|branch_computations=\{)=?\{?%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_KERNEL = re.compile(r'custom_call_target="([^"]+)"|"fusion_backend_config":\s*\{"kind":\s*"([^"]+)"')
_NO_KERNEL = "AllocateBuffer"  # a custom call of TPU programs that computes nothing
_ARRAY = re.compile(r"\b(pred|[a-z]+[0-9]+[a-z0-9]*)\[([\d,]*)\]")
# Instructions that touch no memory, or whose memory is that of the computations they call.
_FREE = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional", "call", "after-all")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    shape: its result, as HLO writes it: an array or a tuple.
    opcode: what it does.
    rest: the operands and attributes.
    root: whether it is the computation's result.
  """

  name: str
  shape: str
  opcode: str
  rest: str
  root: bool

  @functools.cached_property
  def operands(self) -> list[str]:
    """Names of the operands."""
    return re.findall(r"%([\w.\-]+)", re.split(r"\)(?:, [a-z_]+=|$)", self.rest)[0])

  @property
  def called(self) -> list[str]:
    """Names of the computations that it runs, a loop's condition left out."""
    return _CALL.findall(self.rest)


@dataclasses.dataclass(frozen=True)
class Module:
  """The computations of a module, {name: instructions}, and the name of the one that runs first."""

  computations: dict[str, list[Instruction]]
  entry: str

  @classmethod
  def read(cls, text: str) -> Module:
    """Parses what `compiled.as_text()` returns."""
    computations: dict[str, list[Instruction]] = {}
    entry, name = "", ""
    for line in text.splitlines():
      if header := _COMPUTATION.match(line):
        name = header["name"]
        computations[name] = []
        entry = name if header["entry"] else entry
      elif name and (match := _INSTRUCTION.match(line)):
        computations[name].append(Instruction(**match.groupdict(), root=line.lstrip().startswith("ROOT ")))
    return cls(computations, entry)

  def executions(self) -> Iterator[tuple[str, Instruction, int]]:
    """Yields (computation, instruction, how often it runs), the insides of fusions left out.

    The body of a loop counts as often as the loop runs, if the module says how often that is, and else once.
    """
    yield from self._executions(self.entry, 1)

  def _executions(self, name: str, times: int) -> Iterator[tuple[str, Instruction, int]]:
    for instruction in self.computations.get(name, ()):
      yield name, instruction, times
      if instruction.opcode in ("while", "conditional", "call", "async-start"):
        for called in instruction.called:
          yield from self._executions(called, times * self.trips(name, instruction))

  def trips(self, computation: str, instruction: Instruction) -> int:
    """Number of times that an instruction runs what it calls: 1, but for a loop of known length."""
    if instruction.opcode != "while":
      return 1
    if known := _TRIPS.search(instruction.rest):  # CPUs and GPUs
      return int(known[1])
    # TPUs: the condition compares a counter with a constant.
    condition = re.search(r"condition=%?([\w.\-]+)", instruction.rest)
    lines = {line.name: line for line in self.computations.get(condition[1], ())} if condition else {}
    root = next((line for line in lines.values() if line.root), None)
    if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
      return 1
    limits = [_constant(lines[name]) for name in root.operands if name in lines]
    return next((limit for limit in limits if limit is not None), 1)

  def kernels(self) -> dict[str, int]:
    """Counts the runs of each kernel that is not XLA's own code: {target of a custom call, or kind of a fusion: times}.

    Fusions that say which generator makes them, such as "__triton_gemm", are counted by it.
    """
    counts: dict[str, int] = {}
    for _, line, times in self.executions():
      if line.opcode in ("custom-call", "fusion") and (match := _KERNEL.search(line.rest)):
        name = match[1] or match[2]
        counts[name] = counts.get(name, 0) + times
    counts.pop(_NO_KERNEL, None)
    return dict(sorted(counts.items()))

  def bytes_moved(self, once: bool = False) -> int:
    """Bytes that all instructions read and write; with `once`, as if every loop ran once."""
    return sum((1 if once else times) * self._moved(name, line) for name, line, times in self.executions())

  def _moved(self, computation: str, line: Instruction) -> int:
    if line.opcode in _FREE or line.opcode.endswith("-done"):
      return 0
    shapes = self._shapes[computation]
    sizes = [size(shapes[name]) for name in line.operands if name in shapes]
    if line.opcode in ("slice", "dynamic-slice", "gather"):
      return 2 * size(line.shape)
    if line.opcode == "dynamic-update-slice":
      return 2 * sizes[1]
    if line.opcode != "fusion":
      return sum(sizes) + size(line.shape)
    (body,) = line.called
    return sum(self._read(body, i, whole) for i, whole in enumerate(sizes)) + self._written(body, size(line.shape))

  def _read(self, fused: str, index: int, whole: int) -> int:
    """Bytes of its operand `index` that a fusion reads; only those of a slice if nothing but slices of it are used."""
    lines = self.computations[fused]
    name = next(line.name for line in lines if line.opcode == "parameter" and line.rest.startswith(f"{index})"))
    total = 0
    for line in lines:
      for place, operand in enumerate(line.operands):
        if operand != name:
          continue
        if line.opcode in ("slice", "dynamic-slice") and place == 0:
          total += size(line.shape)
        elif line.opcode == "fusion":
          total += self._read(line.called[0], place, whole)
        elif line.opcode != "dynamic-update-slice" or place:
          return whole
    return min(total, whole)

  def _written(self, fused: str, whole: int) -> int:
    """Bytes of its result that a fusion writes: only those of the update where it updates a slice in place."""
    lines = {line.name: line for line in self.computations[fused]}
    shapes = self._shapes[fused]
    root = next(line for line in lines.values() if line.root)
    results = [lines[name] for name in root.operands] if root.opcode == "tuple" else [root]
    for line in results:
      while line.opcode == "bitcast":
        line = lines[line.operands[0]]
      if line.opcode == "dynamic-update-slice":
        whole -= size(line.shape) - size(shapes[line.operands[1]])
    return whole

  @functools.cached_property
  def _shapes(self) -> dict[str, dict[str, str]]:
    """{computation: {instruction: shape}}."""
    return {name: {line.name: line.shape for line in lines} for name, lines in self.computations.items()}


def _constant(line: Instruction) -> int | None:
  number = re.match(r"(\d+)\)", line.rest) if line.opcode == "constant" else None
  return int(number[1]) if number else None


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
  """The arrays of an HLO shape, as (element type, dimensions)."""
  return [(name, tuple(map(int, filter(None, dims.split(","))))) for name, dims in _ARRAY.findall(shape)]


def size(shape: str | list[tuple[str, tuple[int, ...]]]) -> int:
  """Bytes of an HLO shape, or of some of its arrays."""
  parts = arrays(shape) if isinstance(shape, str) else shape
  return sum(math.ceil(_bits(name) * math.prod(dims) / 8) for name, dims in parts)


def _bits(name: str) -> int:
  digits = re.match(r"[a-z]+(\d+)", name)
  return int(digits[1]) if digits else 8  # pred
