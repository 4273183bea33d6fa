"""--mode=scale_out: throughput on 8 to 256 chips on paper, from the preflight of one slice.

Strong scaling keeps the batch, weak scaling the windows a chip (aim/planning/scaled_step.py). Preflights of the same model on
other slices are compiled points beside the curves: they tell how far such figures are from the compiler's.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from aim.common.tables import csv_field, write_rows
from aim.planning import scale_out_figure
from aim.planning.scaled_step import COLUMNS, STRONG, WEAK, CompiledStep, Point, ScaleOutError, curve, read

SPOKEN = {
  "compute": "arithmetic",
  "memory": "memory bandwidth",
  "network": "the network",
  "loader": "the hosts' loaders",
}


def scale_out(
  workdir: pathlib.Path, beside: Sequence[pathlib.Path], chips: Sequence[int], loader: float
) -> list[Point]:
  """Writes scale_out.csv and scale_out.png into `workdir`, and prints what breaks first.

  Args:
    workdir: holds a preflight.json.
    beside: other such folders. Of several preflights of a model and kind of chip the first is scaled, the others are
      compared with it.
    chips: of the slices.
    loader: windows/s that one host reads.
  """
  if loader <= 0 or not chips or min(chips) < 1:
    raise ScaleOutError(f"--chips={','.join(map(str, chips))} --loader={loader:g}: expected numbers above 0")
  steps = [read(folder / "preflight.json") for folder in (workdir, *beside)]
  sources: dict[tuple[str, str], CompiledStep] = {}
  for step in steps:
    sources.setdefault((step.model, step.kind), step)
  points = []
  for source in sources.values():
    print(f"{source.model} on {source.kind}, from {source.chips} chips with {source.batch:,} windows:")
    for scaling in (STRONG, WEAK):
      mine = curve(source, scaling, chips, loader)
      print(f"  {scaling} scaling: {verdict(mine)}")
      points += mine
  for step in steps:
    compiled, source = step.as_compiled(loader), sources[step.model, step.kind]
    points.append(compiled)
    if step is not source:
      print(compared(source.scaled(STRONG, step.chips, step.batch, loader), compiled))
  rows = (map(csv_field, dataclasses.astuple(point)) for point in points)
  write_rows(workdir / "scale_out.csv", COLUMNS, [list(row) for row in rows])
  scale_out_figure.chart(points, loader, workdir / "scale_out.png")
  print(f"{workdir / 'scale_out.csv'}\n{workdir / 'scale_out.png'}")
  return points


def verdict(points: Sequence[Point]) -> str:
  """What breaks first along a curve, in a line."""
  first, last = points[0], points[-1]
  speed = (
    f"{first.windows_per_second:,.0f} windows/s on {first.chips} chips, {last.windows_per_second:,.0f} on {last.chips} "
    f"({100 * last.efficiency:.0f} % efficient); a host reads up to "
    f"{max(p.windows_per_second_and_host for p in points):,.0f} windows/s, "
    f"{max(p.stored_bytes_per_second_and_host for p in points) / 1e6:.3g} MB/s"
  )
  broken = next((point for point in points if point.limit != first.limit), None)
  if broken is not None:
    return f"{SPOKEN[first.limit]} limits, then {SPOKEN[broken.limit]} from {broken.chips} chips on; {speed}"
  rest = {name: seconds / last.seconds for name, seconds in last.terms.items() if name != first.limit}
  shares = ", ".join(f"{SPOKEN[name]} {100 * share:.2g} %" for name, share in sorted(rest.items(), key=lambda x: -x[1]))
  return f"{SPOKEN[first.limit]} limits everywhere, nothing else breaks; of its time on {last.chips}: {shares}; {speed}"


def compared(paper: Point | None, compiled: Point) -> str:
  """A line of the ratios of the paper's terms to the compiler's."""
  where = f"  compiled for {compiled.chips} chips with {compiled.batch:,} windows"
  if paper is None:
    return f"{where}: no such step on paper"
  terms = ", ".join(f"{name} {paper.terms[name] / seconds:.2f}" for name, seconds in compiled.terms.items() if seconds)
  ratio = paper.seconds / compiled.seconds
  return f"{where}: {1000 * compiled.seconds:.3g} ms a step; paper to compiled {ratio:.2f} ({terms})"
