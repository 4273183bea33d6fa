"""Days that are unlike a person's other days: far from all of them in the model's embedding."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped

from data_pipelines.page.blocks import number
from data_pipelines.schema import Schema

FEWEST = 7  # days of a person; with fewer nothing counts as usual
NEIGHBOURS = 3
FAR = 3.5  # robust z-scores
_USUAL_SHARE = 0.1  # of the median, the least spread: days that are nearly equal must not make a small one large


def distances(
  embedding: Float[np.ndarray, "days features"], participant: Shaped[np.ndarray, " days"]
) -> Float[np.ndarray, " days"]:
  """Mean distance of each day from the three nearest days of the same person.

  Returns:
    Euclidean distances of embeddings; NaN for people with less than FEWEST days.
  """
  found = np.full(len(embedding), np.nan)
  for who in np.unique(participant):
    own = np.flatnonzero(participant == who)
    if len(own) >= FEWEST:
      vectors = embedding[own].astype(np.float64)
      apart = np.stack([np.linalg.norm(vectors - vector, axis=1) for vector in vectors])
      np.fill_diagonal(apart, np.inf)
      found[own] = np.sort(apart, axis=1)[:, :NEIGHBOURS].mean(axis=1)
  return found


def robust_scores(
  values: Float[np.ndarray, " days"], participant: Shaped[np.ndarray, " days"]
) -> Float[np.ndarray, " days"]:
  """Deviation of each value from the person's median, in units of 1.48 times the median absolute deviation.

  For normally distributed values that is a z-score, which a few extreme ones cannot move.

  Returns:
    Scores; NaN where the value is, and for people with less than FEWEST known values.
  """
  scores = np.full(len(values), np.nan)
  for who in np.unique(participant):
    own = np.flatnonzero((participant == who) & ~np.isnan(values))
    if len(own) >= FEWEST:
      middle = np.median(values[own])
      spread = 1.4826 * np.median(np.abs(values[own] - middle))
      scores[own] = (values[own] - middle) / max(spread, _USUAL_SHARE * abs(middle), 1e-9)
  return scores


def reasons(
  schema: Schema,
  values: Float[np.ndarray, "days steps channels"],
  participant: Shaped[np.ndarray, " days"],
  which: Bool[np.ndarray, " days"],
  channels: list[int],
  most: int = 3,
) -> list[str]:
  """Largest differences of some days from the usual, as text: means of channels and shares of missing values.

  Args:
    schema: clock and channels.
    values: the days as recorded, NaN where missing.
    participant: whose they are.
    which: the days to explain.
    channels: those that are compared.
    most: facts per day, at most.

  Returns:
    A text per day of `which`.
  """
  observed = ~np.isnan(values)
  facts: list[tuple[str, Float[np.ndarray, " days"], str]] = []
  for c in channels:
    count = observed[:, :, c].sum(axis=1)
    total = np.where(observed[:, :, c], values[:, :, c], 0).sum(axis=1, dtype=np.float64)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    facts.append((schema.names[c].replace("_", " "), mean, schema.channels[c].unit))
    facts.append(
      (f"{schema.names[c].replace('_', ' ')} missing", 100 * (1 - count / values.shape[1]), "%"),
    )
  scores = np.stack([robust_scores(numbers, participant) for _, numbers, _ in facts])
  texts = []
  for day in np.flatnonzero(which):
    others = participant == participant[day]
    order = np.argsort(-np.nan_to_num(np.abs(scores[:, day])))[:most]
    parts = [
      f"{name} {number(float(numbers[day]))} {unit} (usually {number(float(np.nanmedian(numbers[others])))})".replace(
        "  ", " "
      )
      for name, numbers, unit in (facts[i] for i in order if np.nan_to_num(abs(scores[i, day])) > 2)
    ]
    texts.append("; ".join(parts) or "no channel stands out by its mean; the shape of the day does")
  return texts
