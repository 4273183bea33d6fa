"""Loading a trained model: alone, or once it is known that the data that it is for can be matched to its schema."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from aim.inference import matched_days
from aim.inference.pretrained import Pretrained
from aim.training import checkpoint
from aim.training.trained import source
from data_pipelines.channels import vocabulary
from data_pipelines.dataset import Dataset


def load(
  path: str | pathlib.Path,
  batch_size: int | np.integer = 32,
  short_holes: str | None = None,
  own_vocabulary: str | os.PathLike | None = None,
) -> Pretrained:
  """Loads a trained model.

  Args:
    path: a workdir, whose newest checkpoint that can be read is loaded; the folder of one checkpoint; a folder that
      `save` or --mode=export wrote; a release folder of OpenMHC's daily LSM-2; hf://owner/name or
      hf://owner/name@revision on a hub; or the name of shipped weights (aim.weights.names()), unless a local folder
      has this name.
    batch_size: days that each local device computes at a time, at most. It changes speed and memory, not results.
    short_holes: what fills a missing value inside a patch that is partly observed: "decode" (the model),
      "interpolate" (a straight line in time), or "auto": the model if its training hid steps inside patches or drops
      patches with a hole (masking.min_observed_share=1), and otherwise the line, because what it gives there was
      then never trained. By default what the model was trained with, config.impute.short_holes.
    own_vocabulary: a YAML file that adds names to the vocabulary by which days of other channels are matched. By
      default that of the training run (config.data.vocabulary), if the file is here.

  Returns:
    The model, with its moving-average parameters if it was trained with such (config.optimizer.ema).

  Raises:
    CheckpointError: there is no checkpoint at `path` that can be read, or it is of a later version.
    ConfigError: short_holes is unknown.
    VocabularyError: own_vocabulary is no vocabulary.
  """
  known_channels = vocabulary.load(own_vocabulary)
  if not isinstance(path, str | os.PathLike) or not str(path):
    raise checkpoint.CheckpointError(f"aim.load({path!r}): expected a path or a name, as text")
  model = Pretrained(source.read(path), batch_size, short_holes)
  if own_vocabulary is not None:
    model.vocabulary = known_channels
  return model


def load_for(
  path: str | pathlib.Path,
  dataset: Dataset,
  batch_size: int = 32,
  short_holes: str | None = None,
  own_vocabulary: str | os.PathLike | None = None,
) -> tuple[Pretrained, Dataset]:
  """Loads a trained model to be used on a dataset, which may be of other channels, units, order or steps.

  Names and units are compared before the model's parameters are read. What is done to a dataset of another schema is
  printed on stderr.

  Args:
    path, batch_size, short_holes, own_vocabulary: see load().
    dataset: as it is stored.

  Returns:
    The model, and the dataset in its schema.

  Raises:
    MatchingError: the dataset's channels cannot be matched to the model's.
    CheckpointError, ConfigError, VocabularyError: see load().
  """
  matched_days.check_dataset_names(dataset, source.stored_schema(path), vocabulary.load(own_vocabulary))
  model = load(path, batch_size, short_holes, own_vocabulary)
  return model, model.matched(dataset)


def load_for_npz(path: str | pathlib.Path, days: str, own_vocabulary: str | os.PathLike | None = None) -> Pretrained:
  """Loads a trained model, once it is known that the channels of the npz file `days` can be matched to its schema.

  Raises:
    SchemaError: they cannot, or the file is no npz of days.
    CheckpointError, VocabularyError: see load().
  """
  schema = source.stored_schema(path)
  if schema is not None:
    matched_days.npz_matching(days, schema, vocabulary.load(own_vocabulary))
  return load(path, own_vocabulary=own_vocabulary)
