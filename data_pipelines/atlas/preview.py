"""A picture of one day of a source, before anything is built: what --preview of a dry run writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipelines.atlas import day_chart
from data_pipelines.errors import SchemaError
from data_pipelines.page.chart import PNG_DPI, style
from data_pipelines.source import Day, Source

_PEOPLE, _DAYS = 20, 5  # the day is chosen among so many, evenly spaced, of so many people


def write_preview(source: Source, path: str) -> str:
  """Draws the day with the fewest missing values among some of a source, and writes it as a PNG.

  Returns:
    A line that says which day it is.

  Raises:
    SchemaError: the file cannot be written.
  """
  day = min(_candidates(source), key=lambda day: float(np.isnan(day.values).mean()))
  title = f"{day.participant}, {day.date or f'day {day.day}'}"
  stored = {"values": day.values} | ({} if day.cause is None else {"cause": day.cause})
  with style():
    figure = day_chart.chart(source.schema, title, stored, "preview").figure
    figure.text(0.02, 1.01, title, fontsize=10)
    try:
      figure.savefig(path, format="png", dpi=PNG_DPI, facecolor="white", bbox_inches="tight")
    except OSError as error:
      raise SchemaError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from None
  return f"preview: {title}, the fullest of some days, is drawn in {path}"


def _candidates(source: Source) -> Iterator[Day]:
  people = source.participants
  for p in np.unique(np.linspace(0, len(people) - 1, _PEOPLE).round().astype(int)):
    days = source.person(people[p]).days
    for d in np.unique(np.linspace(0, len(days) - 1, _DAYS).round().astype(int)):
      yield days[int(d)]
