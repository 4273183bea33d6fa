"""Charts of what is missing: by channel and cause, by hour, by person, in which channels together, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data_pipelines.atlas import gaps
from data_pipelines.atlas.counts import CAUSES, THRESHOLDS, Counts
from data_pipelines.page.blocks import TextLine, percent
from data_pipelines.page.chart import COLOURS, MARKERS, SERIES, Chart, heat_map, named_rows, panels
from data_pipelines.splits import SPLITS
from data_pipelines.text_files import counted

MOST_CHANNELS = 40  # drawn in one chart


def summary(counts: Counts, name: str) -> TextLine:
  """States how much is missing in the counted days of dataset `name`, and which channel has the most missing values."""
  share, worst = counts.share, int(counts.share.argmax())
  return TextLine(
    f"In {counted(counts.n_days, 'day')} of {name}, {percent(float(share.mean()))} of all values are missing, in "
    f"{counted(int(counts.gap_counts.sum()), 'gap')}. The channel with the most missing values is "
    f"{counts.schema.names[worst]} "
    f"({percent(float(share[worst]))})."
  )


def drawn_channels(counts: Counts) -> list[int]:
  """Indices of the channels to draw, in the order of the schema: all, or the MOST_CHANNELS with the most missing."""
  return sorted(np.argsort(-counts.share, kind="stable")[:MOST_CHANNELS].tolist())


def title_suffix(counts: Counts) -> str:
  """Text for the title of a chart that does not draw all channels, else ""."""
  cut = len(counts.schema.channels) > MOST_CHANNELS
  return f" (the {MOST_CHANNELS} channels with the most missing values)" if cut else ""


def _names(counts: Counts, drawn: Sequence[int]) -> list[str]:
  return [counts.schema.names[c] for c in drawn]


def by_channel(counts: Counts, name: str) -> Chart:
  """Draws the missing share of each channel as bars, stacked by cause."""
  drawn = drawn_channels(counts)
  causes = [k for k in range(len(CAUSES)) if counts.by_cause[:, k].any()]
  shares = counts.by_cause / (counts.n_days * counts.schema.steps)
  figure, [panel] = panels(1.0 + 0.19 * len(drawn) + 0.1 * len(causes))
  left = np.zeros(len(drawn))
  for k in causes:
    width = 100 * shares[drawn, k]
    panel.barh(range(len(drawn)), width, left=left, height=0.72, color=COLOURS[f"cause{k}"], label=CAUSES[k])
    left += width
  named_rows(panel, _names(counts, drawn))
  panel.set_xlabel("% of the day missing")
  if causes:
    figure.legend(loc="outside lower center", ncols=2)
  rows = [
    [channel, f"{100 * counts.share[c]:.2f}", *(f"{100 * shares[c, k]:.2f}" for k in causes)]
    for c, channel in enumerate(counts.schema.names)
  ]
  alt = "Share of the day that is missing in each channel, by cause where the cause is known."
  columns = ["channel", "missing %", *(f"{CAUSES[k]} %" for k in causes)]
  title = f"Missing share of each channel, by cause{title_suffix(counts)}"
  return Chart(name, title, alt, figure, columns, rows)


def by_hour(counts: Counts, name: str) -> Chart:
  """Draws a map of the missing share by channel and hour of the day."""
  parts = len(counts.by_time)
  share = counts.by_time.T * parts / (counts.n_days * counts.schema.steps)
  drawn = drawn_channels(counts)
  hours = 24 // parts  # per part of the day
  figure, [panel] = panels(0.7 + 0.19 * len(drawn))
  heat_map(panel, share[drawn])
  panel.set_yticks(range(len(drawn)), [channel.replace("_", " ") for channel in _names(counts, drawn)])
  ticks = [hour for hour in range(0, 25, 6) if hour % hours == 0]
  panel.set_xticks([hour / hours - 0.5 for hour in ticks], [str(hour) for hour in ticks])
  panel.set_xlabel("hour of the day")
  rows = [[channel, *(f"{100 * part:.2f}" for part in share[c])] for c, channel in enumerate(counts.schema.names)]
  largest = percent(float(share.max()))
  alt = f"Missing share of each channel at each hour of the day; blank means 0 %, full colour {largest}."
  columns = ["channel, % missing", *(f"{hours * part} h" for part in range(parts))]
  return Chart(name, f"Missing share by hour of the day{title_suffix(counts)}", alt, figure, columns, rows)


def by_person(counts: Counts, name: str) -> Chart:
  """Draws a histogram of people by their missing share; the numbers list every person."""
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
    [
      who,
      person.split,
      person.days,
      f"{100 * shares.mean():.2f}",
      *(f"{100 * channel_share:.2f}" for channel_share in shares),
    ]
    for (who, person), shares in zip(people, share, strict=True)
  ]
  columns = ["participant", "split", "days", "missing %", *(f"{channel} %" for channel in counts.schema.names)]
  low, middle, high = np.percentile(share.mean(axis=1), [10, 50, 90])
  alt = "Number of people by the share of their values that is missing. "
  alt += f"Of {counted(len(people), 'person')}, 10 % miss at most "
  alt += f"{percent(low)}, 50 % at most {percent(middle)} and 90 % at most {percent(high)}."
  return Chart(name, "Missing share of each person", alt, figure, columns, rows)


def together(counts: Counts, name: str) -> Chart:
  """Draws a map of the share of each channel's missing time in which each other channel is missing too."""
  share = conditional(counts)
  drawn = drawn_channels(counts)
  shown = share[np.ix_(drawn, drawn)]
  np.fill_diagonal(shown, np.nan)  # always 100 %, because it is the channel itself
  figure, [panel] = panels(1.0 + 0.19 * len(drawn))
  heat_map(panel, shown)
  names = [f"{channel.replace('_', ' ')}  {i}" for i, channel in enumerate(_names(counts, drawn), start=1)]
  panel.set_yticks(range(len(drawn)), names)
  panel.set_xticks(range(len(drawn)), [str(i) for i in range(1, len(drawn) + 1)])
  if len(drawn) > 12:
    panel.tick_params(axis="x", labelsize=6, labelrotation=90)
  panel.set_xlabel("channel that is missing too")
  rows = [
    [channel, *("" if np.isnan(part) else f"{100 * part:.2f}" for part in share[c])]
    for c, channel in enumerate(counts.schema.names)
  ]
  alt = (
    "Of the time in which the channel of a row is missing, the share in which the channel of a column is missing too; "
  )
  alt += f"blank means 0 %, full colour {percent(float(np.nanmax(shown, initial=0)))}."
  columns = ["while this channel is missing, % missing of", *counts.schema.names]
  return Chart(name, f"Channels that are missing together{title_suffix(counts)}", alt, figure, columns, rows)


def conditional(counts: Counts) -> Float[np.ndarray, "channels channels"]:
  """Share of the row channel's missing steps in which the column channel is missing too; NaN if the row has none."""
  alone = np.diag(counts.together)[:, None].astype(np.float64)
  return np.divide(counts.together, alone, out=np.full(counts.together.shape, np.nan), where=alone > 0)


def by_length(counts: Counts, name: str) -> Chart:
  """Draws the distribution of gap lengths over all channels, by number and by missing time."""
  names = gaps.bin_names(counts.schema.minutes_per_step)
  gap_counts, steps = counts.gap_counts.sum(axis=0)[list(names)], counts.gap_steps.sum(axis=0)[list(names)]
  of_gaps, of_time = 100 * gap_counts / max(gap_counts.sum(), 1), 100 * steps / max(steps.sum(), 1)
  figure, [panel] = panels(2.6)
  positions = np.arange(len(names))
  panel.bar(positions - 0.2, of_gaps, 0.38, color=COLOURS["s4"], label="% of the gaps")
  panel.bar(positions + 0.2, of_time, 0.38, color=COLOURS["s1"], label="% of the missing time")
  panel.set_xticks(positions, list(names.values()), rotation=45, ha="right", rotation_mode="anchor")
  panel.set_xlabel("length of the gap (up to)")
  figure.legend(loc="outside upper center", ncols=2)
  rows = [
    [f"up to {label}", int(gap_counts[i]), f"{of_gaps[i]:.1f}", f"{of_time[i]:.1f}"]
    for i, label in enumerate(names.values())
  ]
  alt = "Share of all gaps, and of all missing time, by the length of the gap. Bins end at the length given."
  columns = ["length of the gap", "gaps", "% of the gaps", "% of the missing time"]
  return Chart(name, "Gap lengths", alt, figure, columns, rows)


def length_by_channel(counts: Counts, name: str) -> Chart:
  """Draws a map of each channel's missing time by the length of its gaps."""
  names = gaps.bin_names(counts.schema.minutes_per_step)
  steps = counts.gap_steps[:, list(names)]
  share = steps / np.maximum(steps.sum(axis=1, keepdims=True), 1)
  drawn = drawn_channels(counts)
  figure, [panel] = panels(1.0 + 0.19 * len(drawn))
  heat_map(panel, share[drawn])
  panel.set_yticks(range(len(drawn)), [channel.replace("_", " ") for channel in _names(counts, drawn)])
  panel.set_xticks(range(len(names)), list(names.values()), rotation=45, ha="right", rotation_mode="anchor")
  panel.set_xlabel("length of the gap (up to)")
  rows = [
    [channel, label, int(counts.gap_counts[c, i]), int(counts.gap_steps[c, i]), f"{100 * share[c, column]:.2f}"]
    for c, channel in enumerate(counts.schema.names)
    for column, (i, label) in enumerate(names.items())
  ]
  largest = percent(float(share.max()))
  alt = f"Share of each channel's missing time by the length of the gap; blank means 0 %, full colour {largest}."
  columns = ["channel", "length up to", "gaps", "missing steps", "% of its missing time"]
  return Chart(name, f"Gap lengths of each channel{title_suffix(counts)}", alt, figure, columns, rows)


def by_threshold(counts: Counts, name: str) -> Chart:
  """Draws how many days and people remain when days with a larger missing share than a threshold are left out."""
  splits = [split for split in SPLITS if counts.days[split]]
  least = np.array([person.least_missing for person in counts.people.values()], np.float32)
  people = (least[:, None] <= THRESHOLDS.astype(np.float32)).sum(axis=0)
  days = np.sum([counts.days_within[split] for split in splits], axis=0)
  lines = {"all days": days / counts.n_days} if len(splits) > 1 else {}
  lines |= {f"{split} days": counts.days_within[split] / counts.days[split] for split in splits}
  lines["people with a day"] = people / len(counts.people)
  figure, [panel] = panels(2.8)
  for i, (label, share) in enumerate(lines.items()):
    panel.plot(100 * THRESHOLDS, 100 * share, color=SERIES[i], marker=MARKERS[i], ms=3.5, lw=1.5, label=label)
  panel.set_xlabel("a day may miss up to this % of its values")
  panel.set_ylabel("% that remain")
  panel.set_ylim(-3, 103)
  figure.legend(loc="outside upper center", ncols=3)
  rows = [
    [f"{100 * threshold:.0f}", int(days[t]), f"{100 * days[t] / counts.n_days:.2f}", int(people[t])]
    + [int(counts.days_within[split][t]) for split in splits]
    for t, threshold in enumerate(THRESHOLDS)
  ]
  columns = ["missing up to %", "days", "days %", "people with a day", *(f"{split} days" for split in splits)]
  at80 = percent(float(days[16] / counts.n_days))
  alt = (
    "Share of the days, and of the people with at least one such day, that remain when days that miss more are left "
  )
  alt += f"out (config.data.max_missing); at 80 % missing, {at80} of the days remain."
  return Chart(name, "Days that remain at each threshold", alt, figure, columns, rows)
