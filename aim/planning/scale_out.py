"""--mode=scale_out: the estimated throughput on 8 to 256 chips, from the preflight of one slice.

Strong scaling keeps the batch, and weak scaling keeps the windows per chip (aim/planning/scaled_step.py). Preflights of
the same model on other slices are shown as points beside the curves, so that one sees how far the estimates are from
what the compiler says.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from aim.common.tables import csv_field, write_rows
from aim.planning.scale_out_figure import draw_scale_out
from aim.planning.scaled_step import COLUMNS, STRONG, WEAK, AnalysedStep, ScaleOutError, SliceEstimate, curve, read
from data_pipelines.text_files import counted, percentage, plain_number

RESOURCE_NAMES = {
  "compute": "arithmetic",
  "memory": "memory bandwidth",
  "network": "the network",
  "loader": "the hosts' loaders",
}


def scale_out(
  workdir: pathlib.Path, others: Sequence[pathlib.Path], chips: Sequence[int], loader: float
) -> list[SliceEstimate]:
  """Writes scale_out.csv and scale_out.png into `workdir`, and prints which resource limits first.

  Args:
    workdir: a folder with a preflight.json.
    others: other such folders. Among preflights of the same model and kind of chip, the first is scaled and the others
      are compared with it.
    chips: numbers of chips to estimate.
    loader: windows/s that one host reads.

  Raises:
    ScaleOutError: a preflight.json cannot be used, or a number is not above 0.
  """
  if not 0 < loader < math.inf or not chips or min(chips) < 1:
    raise ScaleOutError(f"--chips={','.join(map(str, chips))} --loader={loader:g}: expected numbers above 0")
  steps = [read(folder / "preflight.json") for folder in (workdir, *others)]
  sources: dict[tuple[str, str], AnalysedStep] = {}
  for step in steps:
    sources.setdefault((step.model, step.kind), step)
  points = []
  for source in sources.values():
    print(
      f"{source.model} on {source.kind}, from {counted(source.chips, 'chip')} with {counted(source.batch, 'window')}:"
    )
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
  draw_scale_out(points, loader, workdir / "scale_out.png")
  print(f"{workdir / 'scale_out.csv'}\n{workdir / 'scale_out.png'}")
  return points


def verdict(points: Sequence[SliceEstimate]) -> str:
  """One line about a curve: which resource limits first, and from how many chips on another one does."""
  first, last = points[0], points[-1]
  speed = (
    f"{first.windows_per_second:,.0f} windows/s on {counted(first.chips, 'chip')}, "
    f"{last.windows_per_second:,.0f} on {last.chips} "
    f"({100 * last.efficiency:.0f} % efficient); a host reads up to "
    f"{max(p.windows_per_second_and_host for p in points):,.0f} windows/s, "
    f"{plain_number(max(p.stored_bytes_per_second_and_host for p in points) / 1e6)} MB/s"
  )
  broken = next((point for point in points if point.limit != first.limit), None)
  if broken is not None:
    now, then = RESOURCE_NAMES[first.limit], RESOURCE_NAMES[broken.limit]
    return f"{now} limits, then {then} from {counted(broken.chips, 'chip')} on; {speed}"
  rest = {name: seconds / last.seconds for name, seconds in last.terms.items() if name != first.limit}
  in_order = sorted(rest.items(), key=lambda item: -item[1])
  shares = ", ".join(f"{RESOURCE_NAMES[name]} {percentage(100 * share)}" for name, share in in_order)
  limit = RESOURCE_NAMES[first.limit]
  return f"{limit} limits everywhere; on {counted(last.chips, 'chip')} the others need, of its time: {shares}; {speed}"


def compared(estimate: SliceEstimate | None, compiled: SliceEstimate) -> str:
  """One line with the ratios of the estimated terms to those of the compiled step."""
  where = f"  compiled for {counted(compiled.chips, 'chip')} with {counted(compiled.batch, 'window')}"
  if estimate is None:
    return f"{where}: no estimate for this step"
  terms = ", ".join(
    f"{name} {estimate.terms[name] / seconds:.2f}" for name, seconds in compiled.terms.items() if seconds
  )
  ratio = estimate.seconds / compiled.seconds
  return f"{where}: {plain_number(1000 * compiled.seconds)} ms per step; estimated to compiled {ratio:.2f} ({terms})"
