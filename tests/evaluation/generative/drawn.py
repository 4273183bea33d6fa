"""Measures figures for tests: the share of a colour in a PNG."""

import pathlib

import numpy as np
from matplotlib import colors, image


def share_of(path: pathlib.Path, colour: str) -> float:
  """Share of the pixels of a PNG that are nearly of that colour."""
  pixels = image.imread(path)[..., :3]
  assert min(pixels.shape[:2]) > 200
  return float((np.abs(pixels - np.array(colors.to_rgb(colour))).max(axis=-1) < 0.02).mean())
