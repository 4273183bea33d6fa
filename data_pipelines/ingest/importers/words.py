"""ReadingColumns of words that stand for numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64

# Fitbit's stages and, of older trackers, states: its minutes asleep leave the restless ones out.
ASLEEP = {"light": 1.0, "deep": 1.0, "rem": 1.0, "asleep": 1.0, "wake": 0.0, "awake": 0.0, "restless": 0.0}


def meant(
  column: pa.StringArray, meanings: Mapping[str, float]
) -> tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """What words of any case stand for, and where that is not known (NaN)."""
  texts = pc.utf8_lower(pc.utf8_trim_whitespace(column)).dictionary_encode()
  known = np.array([meanings.get(text, np.nan) for text in texts.dictionary.to_pylist()])
  values = known[texts.indices.to_numpy()] if len(column) else np.zeros(0)
  return values, np.isnan(values)
