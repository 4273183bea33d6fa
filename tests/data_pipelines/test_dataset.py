"""Opening datasets."""

from __future__ import annotations

import pytest

from data_pipelines.dataset import Dataset
from data_pipelines.errors import DatasetError
from tests import tiny


def test_an_unknown_dataset_is_refused_with_the_names_of_existing_ones(tmp_path):
  with pytest.raises(DatasetError, match="it holds no datasets"):
    Dataset.open(tmp_path / "data", "tiny")
  tiny.dataset(tmp_path)
  with pytest.raises(DatasetError, match=r"no dataset 'tin' in .*; it holds the datasets tiny"):
    Dataset.open(tmp_path / "data", "tin")


def test_an_empty_split_has_no_days(tmp_path):
  dataset = tiny.dataset(tmp_path)
  assert dataset.num_days("tune") == 0
  with pytest.raises(DatasetError, match="dataset 'tiny' has no days in split 'tune'"):
    dataset.days("tune")
  with pytest.raises(DatasetError, match="unknown split 'test'"):
    dataset.days("test")
