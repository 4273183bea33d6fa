"""Charts of what is missing: by channel and cause, hour, person, in company of which channel, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data_pipelines.atlas import gaps
from data_pipelines.atlas.counts import CAUSES, THRESHOLDS, Counts
from data_pipelines.page.blocks import TextLine, percent
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, heat, named_rows, panels
from data_pipelines.splits import SPLITS

MOST_CHANNELS = 40  # that one chart draws


def summary(counts: Counts, name: str) -> TextLine:
  """How much is missing in the days of dataset `name`, and where most."""
  share, most = counts.share, int(counts.share.argmax())
  return TextLine(
    f"{percent(float(share.mean()))} of all values are missing in {counts.n_days:,} days of {name}; most in "
    f"{counts.schema.names[most]} ({percent(float(share[most]))}). {counts.gaps.sum():,} gaps."
  )


def drawn_channels(counts: Counts) -> list[int]:
  """All, or of very many those that miss most, in the order of the schema."""
  return sorted(np.argsort(-counts.share, kind="stable")[:MOST_CHANNELS].tolist())


def of_channels(counts: Counts) -> str:
  """What a title says where not all are drawn."""
  cut = len(counts.schema.channels) > MOST_CHANNELS
  return f" (the {MOST_CHANNELS} channels that miss most)" if cut else ""


def _names(counts: Counts, drawn: Sequence[int]) -> list[str]:
  return [counts.schema.names[c] for c in drawn]


def by_channel(counts: Counts, name: str) -> Chart:
  """Stacked bars, one a channel."""
  drawn = drawn_channels(counts)
  there = [k for k in range(len(CAUSES)) if counts.causes[:, k].any()]
  shares = counts.causes / (counts.n_days * counts.schema.steps)
  figure, [panel] = panels(1.0 + 0.19 * len(drawn) + 0.1 * len(there))
  left = np.zeros(len(drawn))
  for k in there:
    width = 100 * shares[drawn, k]
    panel.barh(range(len(drawn)), width, left=left, height=0.72, color=COLOURS[f"cause{k}"], label=CAUSES[k])
    left += width
  named_rows(panel, _names(counts, drawn))
  panel.set_xlabel("% of the day missing")
  if there:
    figure.legend(loc="outside lower center", ncols=2)
  rows = [
    [channel, f"{100 * counts.share[c]:.2f}", *(f"{100 * shares[c, k]:.2f}" for k in there)]
    for c, channel in enumerate(counts.schema.names)
  ]
  alt = "Bars: share of the day that is missing in each channel, by cause where it is known."
  columns = ["channel", "missing %", *(f"{CAUSES[k]} %" for k in there)]
  title = f"Missing share of each channel, by cause{of_channels(counts)}"
  return Chart(name, title, alt, figure, columns, rows)


def by_hour(counts: Counts, name: str) -> Chart:
  share = counts.slots.T * len(counts.slots) / (counts.n_days * counts.schema.steps)
  drawn, slots = drawn_channels(counts), share.shape[1]
  hours = 24 // slots
  figure, [panel] = panels(0.7 + 0.19 * len(drawn))
  heat(panel, share[drawn])
  panel.set_yticks(range(len(drawn)), [channel.replace("_", " ") for channel in _names(counts, drawn)])
  ticks = [hour for hour in range(0, 25, 6) if hour % hours == 0]
  panel.set_xticks([hour / hours - 0.5 for hour in ticks], [str(hour) for hour in ticks])
  panel.set_xlabel("hour of the day")
  rows = [[channel, *(f"{100 * each:.2f}" for each in share[c])] for c, channel in enumerate(counts.schema.names)]
  most = percent(float(share.max()))
  alt = f"Heat map: share missing in each channel at each hour, from blank (nothing) to full colour ({most})."
  columns = ["channel, % missing", *(f"{hours * slot} h" for slot in range(slots))]
  return Chart(name, f"Missing share by hour of the day{of_channels(counts)}", alt, figure, columns, rows)


def by_person(counts: Counts, name: str) -> Chart:
  """How many people miss how much, and the numbers of each."""
  people = sorted(counts.people.items(), key=lambda item: (item[1].missing.sum() / item[1].days, item[0]))
  steps, channels = counts.schema.steps, len(counts.schema.channels)
  share = np.array([person.missing / (person.days * steps) for _, person in people]).reshape(-1, channels)
  figure, [panel] = panels(2.5)
  panel.hist(100 * share.mean(axis=1), [5.0 * k for k in range(21)], color=COLOURS["s4"], rwidth=0.9)
  panel.set_xlabel("% of a person's values that are missing")
  panel.set_ylabel("people")
  panel.set_xlim(0, 100)
  panel.locator_params(axis="y", integer=True)
  rows = [
    [who, person.split, person.days, f"{100 * mine.mean():.2f}", *(f"{100 * each:.2f}" for each in mine)]
    for (who, person), mine in zip(people, share, strict=True)
  ]
  columns = ["participant", "split", "days", "missing %", *(f"{channel} %" for channel in counts.schema.names)]
  low, middle, high = np.percentile(share.mean(axis=1), [10, 50, 90])
  alt = f"Histogram over {len(people):,} people: a tenth misses up to {percent(low)}, half {percent(middle)}, "
  return Chart(name, "Missing share of each person", f"{alt}nine tenths {percent(high)}.", figure, columns, rows)


def together(counts: Counts, name: str) -> Chart:
  """Of a channel's missing time, what share every other channel misses too."""
  share = conditional(counts)
  drawn = drawn_channels(counts)
  cells = share[np.ix_(drawn, drawn)]
  np.fill_diagonal(cells, np.nan)  # of itself, always all
  figure, [panel] = panels(1.0 + 0.19 * len(drawn))
  heat(panel, cells)
  names = [f"{channel.replace('_', ' ')}  {i}" for i, channel in enumerate(_names(counts, drawn), start=1)]
  panel.set_yticks(range(len(drawn)), names)
  panel.set_xticks(range(len(drawn)), [str(i) for i in range(1, len(drawn) + 1)])
  if len(drawn) > 12:
    panel.tick_params(axis="x", labelsize=6, labelrotation=90)
  panel.set_xlabel("is missing too")
  rows = [
    [channel, *("" if np.isnan(each) else f"{100 * each:.2f}" for each in share[c])]
    for c, channel in enumerate(counts.schema.names)
  ]
  alt = "Heat map: of the time in which a row's channel is missing, the share in which another is, from "
  alt += f"blank (never) to full colour ({percent(float(np.nanmax(cells, initial=0)))})."
  columns = ["while this is missing, % missing of", *counts.schema.names]
  return Chart(name, f"Channels that are missing together{of_channels(counts)}", alt, figure, columns, rows)


def conditional(counts: Counts) -> Float[np.ndarray, "c c"]:
  """Share of the row's missing steps in which the column is missing; NaN in the row of a channel without any."""
  alone = np.diag(counts.together)[:, None].astype(np.float64)
  return np.divide(counts.together, alone, out=np.full(counts.together.shape, np.nan), where=alone > 0)


def by_length(counts: Counts, name: str) -> Chart:
  """Of all channels: bars of gaps and of missing time by length."""
  names = gaps.bin_names(counts.schema.minutes_per_step)
  found, steps = counts.gaps.sum(axis=0)[list(names)], counts.gap_steps.sum(axis=0)[list(names)]
  of_gaps, of_time = 100 * found / max(found.sum(), 1), 100 * steps / max(steps.sum(), 1)
  figure, [panel] = panels(2.6)
  place = np.arange(len(names))
  panel.bar(place - 0.2, of_gaps, 0.38, color=COLOURS["s4"], label="% of the gaps")
  panel.bar(place + 0.2, of_time, 0.38, color=COLOURS["s1"], label="% of the missing time")
  panel.set_xticks(place, list(names.values()), rotation=45, ha="right", rotation_mode="anchor")
  panel.set_xlabel("length of the gap, up to")
  figure.legend(loc="outside upper center", ncols=2)
  rows = [
    [f"to {label}", int(found[i]), f"{of_gaps[i]:.1f}", f"{of_time[i]:.1f}"] for i, label in enumerate(names.values())
  ]
  alt = "Bars: share of the gaps, and of the missing time, by the length of the gap."
  columns = ["length of the gap", "gaps", "% of the gaps", "% of the missing time"]
  return Chart(name, "How long the gaps are", alt, figure, columns, rows)


def length_by_channel(counts: Counts, name: str) -> Chart:
  """Of each channel's missing time, how much lies in gaps of which length."""
  names = gaps.bin_names(counts.schema.minutes_per_step)
  steps = counts.gap_steps[:, list(names)]
  share = steps / np.maximum(steps.sum(axis=1, keepdims=True), 1)
  drawn = drawn_channels(counts)
  figure, [panel] = panels(1.0 + 0.19 * len(drawn))
  heat(panel, share[drawn])
  panel.set_yticks(range(len(drawn)), [channel.replace("_", " ") for channel in _names(counts, drawn)])
  panel.set_xticks(range(len(names)), list(names.values()), rotation=45, ha="right", rotation_mode="anchor")
  panel.set_xlabel("length of the gap, up to")
  rows = [
    [channel, label, int(counts.gaps[c, i]), int(counts.gap_steps[c, i]), f"{100 * share[c, place]:.2f}"]
    for c, channel in enumerate(counts.schema.names)
    for place, (i, label) in enumerate(names.items())
  ]
  most = percent(float(share.max()))
  alt = f"Heat map: share of each channel's missing time in gaps of each length, to full colour at {most}."
  columns = ["channel", "length up to", "gaps", "missing steps", "% of its missing time"]
  return Chart(name, f"Gap lengths of each channel{of_channels(counts)}", alt, figure, columns, rows)


def kept(counts: Counts, name: str) -> Chart:
  """Days and people left at each threshold on a day's missing share."""
  splits = [split for split in SPLITS if counts.days[split]]
  least = np.array([person.least for person in counts.people.values()], np.float32)
  people = (least[:, None] <= THRESHOLDS.astype(np.float32)).sum(axis=0)
  days = np.sum([counts.kept[split] for split in splits], axis=0)
  lines = {"all days": days / counts.n_days} if len(splits) > 1 else {}
  lines |= {split: counts.kept[split] / counts.days[split] for split in splits}
  lines["people with a day"] = people / len(counts.people)
  figure, [panel] = panels(2.8)
  for i, (label, share) in enumerate(lines.items()):
    panel.plot(100 * THRESHOLDS, 100 * share, color=SERIES[i], marker=MARKERS[i], ms=3.5, lw=1.5, label=label)
  panel.set_xlabel("a day may miss up to, % of its values")
  panel.set_ylabel("% kept")
  panel.set_ylim(-3, 103)
  figure.legend(loc="outside upper center", ncols=3)
  rows = [
    [f"{100 * most:.0f}", int(days[t]), f"{100 * days[t] / counts.n_days:.2f}", int(people[t])]
    + [int(counts.kept[split][t]) for split in splits]
    for t, most in enumerate(THRESHOLDS)
  ]
  columns = ["missing up to %", "days kept", "days kept %", "people with a day", *(f"{each} days" for each in splits)]
  at80 = percent(float(days[16] / counts.n_days))
  alt = f"Lines: days, and people with at least one day, kept at each threshold; at 80 % missing {at80} of the days."
  return Chart(name, "Days kept at each coverage threshold", alt, figure, columns, rows)
