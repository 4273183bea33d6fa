"""The page about days of one's own: what its sections say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from aim.common.progress import tracked
from aim.inference.clipped_channels import told
from aim.inference.pretrained import Pretrained
from aim.report import cards
from aim.report.my_days import day_charts, own_days, unlike
from aim.report.my_days.filled_days import FilledDays
from data_pipelines.page.blocks import Block, Choice, Section, Table, TextLine, number, percent
from data_pipelines.text_files import counted

MOST_DRAWN, FEWEST_DRAWN = 31, 7  # days; a page of more is slow to open
_POINTS = MOST_DRAWN * 6 * 288  # drawn in all, which is about three megabytes
_TOO_NARROW = (
  "They are too narrow for {} without other days of the person, because the model's errors were measured with such "
  "days (--mode=calibrate measures both)."
)


def sections(model: Pretrained, made: FilledDays, files: Sequence[tuple[str, str]]) -> list[Section]:
  """All sections of the page; call it within chart.style().

  Args:
    model: what filled the days.
    made: the days, and what the model made of them.
    files: (name, what it holds) of each file beside the page.
  """
  names = own_days.titles(made.days)
  apart = unlike.distances(made.embedding, made.days.participant)
  scores = unlike.robust_scores(apart, made.days.participant)
  return [
    _summary(model, made, names, scores),
    _drawn_days(model, made, names, scores),
    _unlike(made, names, apart, scores),
    _channels(made),
    _about(model, made, files),
  ]


def _summary(model: Pretrained, made: FilledDays, names: Sequence[str], scores: Float[np.ndarray, " days"]) -> Section:
  days, known = made.days, made.channels
  people = len(set(days.participant.tolist()))
  share = float(made.missing[:, :, known].mean())
  far = np.nan_to_num(scores) > unlike.FAR
  facts = [
    ["read", days.origin],
    ["days", f"{len(names):,}, from {names[0]} to {names[-1]}" + (f", of {people} people" if people > 1 else "")],
    ["channels", f"{len(known)} of {len(days.schema.channels)} that were recorded, every {_clock(made)}"],
    ["filled in", f"{percent(share)} of their values" if made.missing.any() else "nothing: there are no holes"],
    ["unlike the others", _verdict(scores, far)],
    ["model", f"{model.name}, {model.trained_steps:,} training steps; nothing was trained on these days"],
  ]
  blocks: list[Block] = [Table("", ["", ""], facts), day_charts.coverage(made, names)]
  if days.notes:
    blocks.append(Table("What reading said", [""], [[note] for note in days.notes], folded=len(days.notes) > 4))
  return Section("summary", "Summary", blocks)


def _verdict(scores: Float[np.ndarray, " days"], far: Bool[np.ndarray, " days"]) -> str:
  if np.isnan(scores).all():
    return f"cannot be told from fewer than {unlike.FEWEST} days of a person"
  return counted(int(far.sum()), "day") if far.any() else "no day"


def _clock(made: FilledDays) -> str:
  ours, theirs = made.matching.source.minutes_per_step, made.matching.target.minutes_per_step
  return counted(ours, "minute") + (f" (the model's steps are {theirs})" if ours != theirs else "")


def how_sure(model: Pretrained, made: FilledDays) -> str:
  """Explains the bands on the page, and says on how many days they are too narrow."""
  if model.uncertainty is None:
    return "How sure that is, nobody measured for this model, so there is no band (--mode=calibrate measures it)."
  told = f"The bands say how sure that is. {model.uncertainty.text()} On people and devices unlike those they may fail."
  if made.normalised:
    told += f" For {', '.join(made.normalised)}, normalised by these days, that was not measured."
  if model.context_days and model.uncertainty.alone is None and not made.beside.all():
    return f"{told} {_TOO_NARROW.format(counted(int((~made.beside).sum()), 'day'))}"
  return told


def _drawn_days(
  model: Pretrained, made: FilledDays, names: Sequence[str], scores: Float[np.ndarray, " days"]
) -> Section:
  days = made.days
  drawn = day_charts.panel_channels(days.schema, days.values, made.channels)
  most = max(FEWEST_DRAWN, min(MOST_DRAWN, _POINTS // (len(drawn) * days.schema.steps)))
  chosen = chosen_days(scores, most)
  far = np.nan_to_num(scores) > unlike.FAR
  share = made.missing[:, :, drawn].mean(axis=(1, 2))
  title = lambda row: f"{names[row]}: {100 * share[row]:.0f} % filled in{', unlike the others' * bool(far[row])}"
  options = [
    (title(row), day_charts.day(made, row, title(row), f"day-{row + 1}", drawn))
    for row in tracked(chosen, "draw", "day")
  ]
  told = [
    "The thin line is what was recorded. Grey stretches were not, and the thick line is what the model expects there. "
    "It is no measurement.",
    how_sure(model, made),
  ]
  if len(chosen) < len(names):
    told.append(
      f"{len(chosen)} of {len(names):,} days are drawn: those most unlike the others, and the rest evenly over time. "
      "The files hold all of them."
    )
  if len(drawn) < len(made.channels):
    told.append(f"{len(drawn)} of {len(made.channels)} channels are drawn, those with the most values of each sensor.")
  if not made.missing.any():
    told.append("Nothing was missing, so nothing is filled in.")
  return Section("days", "My days", [*map(TextLine, told), Choice("Day", options)])


def chosen_days(scores: Float[np.ndarray, " days"], most: int) -> list[int]:
  """The days that are drawn, in order: all, or `most` of them, up to a third of which are most unlike the others."""
  if len(scores) <= most:
    return list(range(len(scores)))
  known = np.nan_to_num(scores, nan=-np.inf)
  far = [int(i) for i in np.argsort(-known)[: most // 3] if known[i] > unlike.FAR]
  rest = np.setdiff1d(np.arange(len(scores)), far)
  evenly = rest[np.linspace(0, len(rest) - 1, most - len(far)).round().astype(int)]
  return sorted({*far, *evenly.tolist()})


def _unlike(
  made: FilledDays, names: Sequence[str], apart: Float[np.ndarray, " days"], scores: Float[np.ndarray, " days"]
) -> Section:
  blocks: list[Block] = [
    TextLine(
      "The model turns each day into a vector; days with similar rhythms lie close together. A day's distance is the "
      f"mean to the {unlike.NEIGHBOURS} nearest other days of the same person. It counts as unlike the others if its "
      f"robust z is above {unlike.FAR:g}: that many times the usual spread above the middle distance. An unlike day is "
      "no sign of illness: a trip, a party or a watch that was worn differently are enough."
    )
  ]
  if np.isnan(scores).all():
    blocks.append(TextLine(f"With fewer than {unlike.FEWEST} days of a person nothing counts as usual.", "hint"))
    return Section("unlike", "Days unlike the others", blocks)
  far = np.nan_to_num(scores) > unlike.FAR
  blocks.append(day_charts.distances(names, apart, scores))
  if not far.any():
    blocks.append(TextLine("No day is that far from the others."))
    return Section("unlike", "Days unlike the others", blocks)
  why = unlike.reasons(made.days.schema, made.days.values, made.days.participant, far, made.channels)
  rows = [
    [names[int(i)], number(float(scores[i])), text]
    for i, text in sorted(zip(np.flatnonzero(far), why, strict=True), key=lambda found: -scores[found[0]])
  ]
  blocks.append(Table("", ["day", "robust z", "what differs most"], rows, folded=len(rows) > 20))
  return Section("unlike", "Days unlike the others", blocks)


def _channels(made: FilledDays) -> Section:
  """Every channel of the days and of the model: used, converted, left out or absent."""
  matching, observed = made.matching, ~np.isnan(made.days.values)
  distance = {found.name: found for found in made.distances}
  rows = []
  for pair in matching.pairs:
    used = "used"
    if pair.name != pair.target_name:
      used += f" as {pair.target_name}"
    if pair.unit != pair.target_unit:
      used += f", converted to {pair.target_unit}"
    if pair.name in matching.undeclared:
      used += f", taken to be in {pair.unit}"
    if pair.target_name in made.normalised:
      used += ", normalised by these days to be filled"
    found = distance.get(pair.target_name)
    lies = TextLine(found.text.removeprefix(f"{found.name}: "), "open" if found.is_far else "") if found else "–"
    rows.append([pair.name, pair.unit, used, percent(float(observed[:, :, pair.source].mean())), lies])
  for name in matching.extra:
    c = matching.source.index(name)
    unit, share = matching.source.channels[c].unit, percent(float(observed[:, :, c].mean()))
    rows.append([name, unit, "left out: the model does not have it", share, "–"])
  for name in matching.absent:
    unit = matching.target.channels[matching.target.index(name)].unit
    rows.append([name, unit, "absent: treated as missing, and not drawn", "", "–"])
  columns = ["channel", "unit", "what became of it", "recorded", "beside the model's training data"]
  blocks: list[Block] = [Table("", columns, rows)]
  blocks += [TextLine(line[0].upper() + line[1:] + ".") for line in matching.told() if line.startswith("steps of")]
  if any(found.is_far for found in made.distances):
    blocks.append(
      TextLine(
        "Highlighted channels lie far from what the model was trained on. Trust it less there, and check the unit.",
        "open",
      )
    )
  names, others = told([channel for channel in made.clipped if channel.name not in made.normalised])
  if names:
    blocks.append(
      TextLine(f"Clipped: {names}. --statistics=data normalises by these days instead, to fill them.", "open")
    )
  if others:
    blocks.append(TextLine(f"Clipped: {others}.", "open"))
  return Section("channels", "Channels", blocks)


def _about(model: Pretrained, made: FilledDays, files: Sequence[tuple[str, str]]) -> Section:
  blocks: list[Block] = []
  if files:
    blocks.append(Table("Files beside this page", ["file", "what it holds"], files))
  blocks += [TextLine(f"Use: {cards.USE}"), TextLine(f"Limits: {cards.LIMITS}")]
  return Section("about", "About", blocks)
