"""Importers of several kinds act as one: devices are told apart, wear rules are kept, signals are the vocabulary's."""

import dataclasses
import types

import numpy as np
import pytest

from data_pipelines.ingest.importers import IMPORTERS
from data_pipelines.ingest.options import ImportOptions
from data_pipelines.ingest.reading.account import Account
from data_pipelines.ingest.reading.importer import combined, told_apart
from data_pipelines.ingest.reading.readings import COARSE, ENTERED_BY_HAND, Readings
from data_pipelines.ingest.reading.signals import common_signal


class OfDevices:
  """An importer with a reading of each of some devices."""

  devices = ("watch",)

  def read(self, export, name, account):
    time = np.zeros(1, np.int64)
    for device in ("watch", "phone", ENTERED_BY_HAND, COARSE):
      yield Readings("kim", "steps", "steps", time, time, np.ones(1), device)


def test_what_is_no_device_is_known_as_such_among_several_kinds():
  found = [item.device for item in told_apart({"a": OfDevices()})["a"].read(None, "", Account())]
  assert found == ["0 a 00 watch", "1 a phone", ENTERED_BY_HAND, COARSE]


@pytest.mark.parametrize(
  ("kinds", "signals", "expected"),
  [
    (["accelerometer"], ["activity_counts_vm"], ("choi", "activity_counts_vm")),
    (["nhanes", "accelerometer"], ["activity_counts_vm", "steps"], ("choi", "activity_counts_vm")),
    (["fitbit", "accelerometer"], ["activity_counts_vm", "heart_rate"], ("auto", "activity_counts_vm")),
    (["fitbit", "apple"], ["heart_rate"], ("auto", "activity_counts")),
  ],
)
def test_the_wear_rule_of_counts_is_kept_among_several_kinds(kinds, signals, expected):
  importers = {kind: IMPORTERS[kind] for kind in kinds}
  importer = combined(importers if len(kinds) == 1 else told_apart(importers))
  spool = types.SimpleNamespace(series=[types.SimpleNamespace(signal=signal, unit="") for signal in signals])
  recipe, _ = ImportOptions().recipe_for(importer, spool)
  assert (recipe.worn.rule, recipe.worn.counts) == expected


@pytest.mark.parametrize("source", IMPORTERS)
def test_signals_are_those_of_the_vocabulary(source):
  for signal in IMPORTERS[source].signals:
    common = common_signal(signal.name)
    assert signal == dataclasses.replace(common, high=signal.high, quiet=signal.quiet), signal.name
