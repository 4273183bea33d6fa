"""The embedding map: held-out days in the plane of the first two principal components, coloured by their labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aim.common.plotting import legend_above
from aim.report.workdir import Workdir
from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import Block, Choice, Section, TextLine
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, panels, slug
from data_pipelines.text_files import counted, plain_number

GROUPS = 8  # categories with a colour of their own
UNKNOWN = "unknown"


def section(workdir: Workdir, split: str, most: int, name: str) -> Section:
  """The section with the map of a workdir's model.

  Args:
    workdir: gives model and dataset.
    split: whose days are drawn.
    most: number of days, at most.
    name: prefix of the charts' names.
  """
  title = f"Embedding map: {workdir.label}"
  model, dataset = workdir.model, workdir.dataset
  if model is None or dataset is None or dataset.num_days(split) < 3:
    reason = workdir.missing.get("model") or workdir.missing.get("dataset") or "fewer than three held-out days"
    return Section(name, title, [TextLine(f"There is no map: {reason}", "hint")])
  model.check_dataset(dataset)
  days = _days(dataset, split, most)
  embedded = model.embed(np.stack([day["values"] for day in days]), progress=True)
  places, explained = project(embedded)
  labels = _labels(dataset, days)
  columns = ["participant", "day", "x", "y", *labels]
  rows = [
    [day["participant"].decode(), int(day["day"]), f"{x:.4g}", f"{y:.4g}", *(values[i] for values in labels.values())]
    for i, (day, (x, y)) in enumerate(zip(days, places, strict=True))
  ]
  options = []
  for i, (label, values) in enumerate(labels.items()):
    groups, ordered = grouped(values)
    chart = _chart(f"{name}-{i + 1}-{slug(label)}", label, places, groups, ordered, columns, rows)
    options.append((label.replace("_", " "), chart))
  seen = model.seen_people(dataset, {day["participant"].decode() for day in days})
  lead: Block = TextLine(
    f"{counted(len(days), 'day')} of {seen.text}, placed by the first two principal components of their "
    f"embeddings ({100 * explained[0]:.0f} and {100 * explained[1]:.0f} % of the variance). Days close together look "
    "alike to the model. Where the colours of a label separate, the label can be predicted from the embedding."
  )
  return Section(name, title, [lead, Choice("Coloured by", options)])


def project(embedded: Float[np.ndarray, "days width"]) -> tuple[Float[np.ndarray, "days 2"], Float[np.ndarray, "2"]]:
  """The first two principal components of embeddings, and their shares of the variance."""
  from sklearn.decomposition import PCA

  pca = PCA(n_components=2, svd_solver="full")
  return pca.fit_transform(embedded), pca.explained_variance_ratio_


def _days(dataset: Dataset, split: str, most: int) -> list[dict[str, Any]]:
  source = dataset.days(split)
  chosen = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int))
  return [source[int(i)] for i in chosen]


def _labels(dataset: Dataset, days: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
  """Each day's share missing and its person's labels, None where unknown; labels that never differ are left out."""
  labels: dict[str, list[Any]] = {"% missing": [round(100 * float(np.isnan(day["values"]).mean()), 1) for day in days]}
  table = dataset.participants().to_pydict()
  row = {participant: i for i, participant in enumerate(table["participant"])}
  for label, values in table.items():
    if label in ("participant", "split", "days"):
      continue
    of_days = [values[row[day["participant"].decode()]] for day in days]
    if len({value for value in of_days if value is not None}) > 1:
      labels[label] = of_days
  return labels


def grouped(values: Sequence[Any]) -> tuple[list[str], list[str]]:
  """Groups the values of a label: more than four different numbers by quarters, anything else by value.

  Returns:
    The group of each value, and the groups in order.
  """
  known = [value for value in values if value is not None]
  numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
  if numeric and len(set(known)) > 4:
    edges = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{plain_number(a)} to {plain_number(b)}" for a, b in itertools.pairwise(edges)]
    place = lambda value: names[min(max(int(np.searchsorted(edges, value)) - 1, 0), len(names) - 1)]
    groups = [UNKNOWN if value is None else place(value) for value in values]
  else:
    distinct = sorted(set(known), key=lambda value: (-known.count(value), str(value)))
    own_colour = distinct if len(distinct) <= GROUPS else distinct[: GROUPS - 1]
    names = [str(value) for value in (sorted(own_colour) if numeric else own_colour)]
    names += ["others"] * (len(own_colour) < len(distinct))
    groups = [UNKNOWN if value is None else str(value) if value in own_colour else "others" for value in values]
  return groups, names + [UNKNOWN] * (UNKNOWN in groups)


def _chart(
  name: str,
  label: str,
  places: np.ndarray,
  groups: Sequence[str],
  ordered: Sequence[str],
  columns: Sequence[str],
  rows: Sequence[Sequence[Any]],
) -> Chart:
  figure, [panel] = panels(3.9)
  ranked = all(" to " in group for group in ordered if group != UNKNOWN)
  for i, group in enumerate(ordered):
    in_group = np.array([name == group for name in groups])
    colour = COLOURS[f"q{i}"] if ranked and i < 4 else SERIES[i % len(SERIES)]
    colour = COLOURS["line"] if group == UNKNOWN else colour
    panel.plot(*places[in_group].T, MARKERS[i % len(MARKERS)], color=colour, ms=4, mew=0, alpha=0.85, label=group)
  panel.set_xlabel("first component")
  panel.set_ylabel("second component")
  panel.set_xticks([])
  panel.set_yticks([])
  legend_above(figure, panel.get_lines())
  words = label.replace("_", " ")
  alt = f"Scatter of {counted(len(places), 'day')} in two dimensions, coloured by {words}: {', '.join(ordered)}."
  return Chart(name, f"Coloured by {words}", alt, figure, columns, rows)
