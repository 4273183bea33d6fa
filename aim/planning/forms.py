"""The forms of a step side by side: what each computes and moves, and how fast it can be, as text and as a figure."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from aim.common.plotting import COLOURS, INK, bare_axes, new_figure, save_figure
from data_pipelines.errors import UserError
from data_pipelines.text_files import plain_number

FORMS = ("textbook", "trimmed", "packed")
# What a step computes, in the order in which it is drawn: flops.executed_parts.
PARTS = {
  "useful": "useful",
  "missing": "positions without a value",
  "padding": "padding",
  "blocks": "other windows in blocks of attention",
}
TERMS = ("compute", "memory", "network")
_HEADS = ("form", *PARTS, "executed", "of textbook", "memory", "traffic", "at least", "limit", "MFU, useful")


def check_forms(names: Sequence[str], method: str) -> None:
  """Raises UserError if --forms names anything but FORMS, or the method has none."""
  if names and method != "mae":
    raise UserError(f"--forms={','.join(names)}: config.method is {method!r}, expected 'mae', which has forms")
  for name in names:
    if name not in FORMS:
      raise UserError(f"--forms={','.join(names)}: unknown form {name!r}; expected some of {', '.join(FORMS)}")


def row(parts: Mapping[str, float], speed: Mapping[str, Any], size: str, memory: int) -> dict[str, Any]:
  """Entry of preflight.json for one form.

  Args:
    parts: FLOPs per window, flops.executed_parts.
    speed: the part of preflight.json about FLOPs, traffic and time.
    size: its typical buffers, as text.
    memory: bytes per device that the program for them needs.
  """
  same = ("executed_to_textbook", "bytes_moved", "roofline")
  return {"buffers": size, "parts": dict(parts), "memory": memory} | {key: speed[key] for key in same}


def text(rows: Mapping[str, Mapping[str, Any]]) -> str:
  """A table of the forms: GFLOPs per window by parts, and per step and device the memory, traffic and least time."""
  table = [_HEADS]
  for name, form in rows.items():
    billions = [plain_number(form["parts"][part] / 1e9) for part in PARTS]
    executed = sum(form["parts"].values())
    line = form["roofline"]
    time = ("-",) * 4
    if line is not None:
      time = (
        f"{plain_number(form['bytes_moved'] / 1e9)} GB",
        f"{plain_number(1000 * line['seconds_per_step'])} ms",
        line["limit"],
        f"{100 * line['mfu_ceiling_useful']:.0f} %" if line["mfu_ceiling_useful"] else "-",
      )
    share = f"{form['executed_to_textbook']:.2f}"
    memory = f"{plain_number(form['memory'] / 1e9)} GB"
    table.append((name, *billions, plain_number(executed / 1e9), share, memory, *time))
  widths = [max(len(line[i]) for line in table) for i in range(len(_HEADS))]
  lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
  return "\n".join(["GFLOPs per window, and memory, traffic and time per step and device:", *lines])


def draw_forms(rows: Mapping[str, Mapping[str, Any]], title: str, path: str | pathlib.Path) -> None:
  """Draws what each form computes, its roofline, and the ceiling of the MFU.

  Args:
    rows: {form: row()}.
    title: the model and the hardware.
    path: the PNG file.
  """
  figure = new_figure(14, 4.4)
  work, time, use = figure.subplots(1, 3)
  names = list(rows)
  figure.suptitle(title, fontsize=10, color=INK)
  base = [0.0] * len(names)
  for (part, label), colour in zip(PARTS.items(), COLOURS, strict=False):
    heights = [rows[name]["parts"][part] / 1e9 for name in names]
    work.bar(names, heights, bottom=base, color=colour, width=0.6, label=label)
    base = [low + height for low, height in zip(base, heights, strict=True)]
  for i, name in enumerate(names):
    share = rows[name]["executed_to_textbook"]
    work.text(i, base[i], f"{share:.2f} x textbook", ha="center", va="bottom", fontsize=8, color=INK)
  compiled = [name for name in names if rows[name]["roofline"] is not None]
  for i, (term, colour) in enumerate(zip(TERMS, COLOURS, strict=False)):
    places = [names.index(name) + 0.22 * (i - 1) for name in compiled]
    heights = [1000 * rows[name]["roofline"][term] for name in compiled]
    bars = time.bar(places, heights, width=0.2, color=colour, label=term)
    time.bar_label(bars, [plain_number(height) for height in heights], fontsize=7, color=INK)
  for i, (key, label) in enumerate((("mfu_ceiling_executed", "executed"), ("mfu_ceiling_useful", "useful"))):
    places = [names.index(name) + 0.3 * (i - 0.5) for name in compiled]
    heights = [100 * (rows[name]["roofline"][key] or 0) for name in compiled]
    bars = use.bar(places, heights, width=0.28, color=COLOURS[i], label=label)
    use.bar_label(bars, [f"{height:.0f}" for height in heights], fontsize=8, color=INK)
  _finish(work, names, "GFLOPs per window")
  _finish(time, names, "ms per step that each needs alone")
  _finish(use, names, "MFU, at most, %")
  save_figure(figure, path)


def _finish(panel: Axes, names: list[str], label: str) -> None:
  panel.set_xticks(range(len(names)), names)
  panel.set_ylabel(label, fontsize=9, color=INK)
  panel.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
  panel.margins(y=0.1)
  bare_axes(panel)
