"""Converts columns of categories, such as sleep stages, from text to the numbers they stand for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64

# Fitbit's sleep stages, and the states of its older trackers. Fitbit does not count restless minutes as asleep.
ASLEEP = {"light": 1.0, "deep": 1.0, "rem": 1.0, "asleep": 1.0, "wake": 0.0, "awake": 0.0, "restless": 0.0}


def category_values(
  column: pa.StringArray, value_of: Mapping[str, float]
) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """The number that each text stands for, in any letter case, and a mask of unknown texts, whose number is NaN."""
  texts = pc.utf8_lower(pc.utf8_trim_whitespace(column)).dictionary_encode()
  known = np.array([value_of.get(text, np.nan) for text in texts.dictionary.to_pylist()])
  values = known[texts.indices.to_numpy()] if len(column) else np.zeros(0)
  return values, np.isnan(values)
