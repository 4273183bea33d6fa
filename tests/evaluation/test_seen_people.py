"""Scores report whether their people were trained on, judging by the checkpoint, whatever dataset is scored."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

import aim
from aim.common import config_files, seen_people
from aim.training import checkpoint, checkpoint_metadata
from data_pipelines.build import build, npz_request
from data_pipelines.dataset import Dataset
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from tests import tiny
from tests.golden import checkpoints as golden


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
  """Eight people, of whom p0 to p4 are trained on."""
  return tiny.dataset(tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> pathlib.Path:
  """The workdir of a run on all five."""
  workdir = tmp_path_factory.mktemp("trained")
  ended = tiny.run(*command(dataset, workdir), "--config.total_steps=2")
  assert ended.code == 0, ended.err
  return workdir


@pytest.fixture
def workdir(trained, tmp_path) -> pathlib.Path:
  return shutil.copytree(trained, tmp_path / "run")


def command(dataset: Dataset, workdir: pathlib.Path) -> list[str]:
  return [f"--config={tiny.CONFIG}", *tiny.on(dataset), *tiny.overrides(total_steps=2), f"--workdir={workdir}"]


def split_anew(folder: pathlib.Path, evaluated: tuple[str, ...], name: str = "tiny") -> Dataset:
  """The same people, of whom those `evaluated` are the eval split."""
  path = tiny.write_npz(folder / f"{name}.npz")
  others = tuple(person for person in NpzSource(path).participants if person not in evaluated)
  split = ListSplit(others, (), evaluated)
  return build(NpzSource(path), folder / "data", name, split=split, request=npz_request(path))


def strangers(folder: pathlib.Path) -> Dataset:
  """Other people: the same days under other ids."""
  path, arrays = folder / "strangers.npz", tiny.arrays()
  del arrays["labels"]
  np.savez(path, **arrays | {"participant": np.array([f"s_{person}" for person in arrays["participant"]])})
  people = tuple(NpzSource(path).participants)
  split = ListSplit(people[3:], (), people[:3])
  return build(NpzSource(path), folder / "data", "strangers", split=split, request=npz_request(path))


def without_record(saved: dict) -> dict:
  return {key: value for key, value in saved.items() if key != seen_people.RECORD}


def test_counts_and_digests_are_of_those_trained_on(dataset):
  everyone = checkpoint_metadata.training_data(dataset)
  some = checkpoint_metadata.training_data(dataset, {"max_participants": 2, "max_days": 3})
  assert seen_people.known_counts(everyone) == (5, 10) and seen_people.known_counts(some) == (2, 3)
  assert seen_people.counts_text(some) == "3 days of 2 people"
  digests = [set(data[seen_people.RECORD][seen_people.DIGESTS]) for data in (everyone, some)]
  assert len(digests[0]) == 5 and digests[1] < digests[0]


@pytest.mark.parametrize(
  ("data", "recorded", "field", "text"),
  [
    ("same", True, "none", "3 people never seen in training"),
    ("rebuilt", True, "2 of 3", "3 people, of whom 2 were trained on (by their ids)"),
    ("strangers", True, "none", "3 people never seen in training"),
    ("same", False, "none", "3 people never seen in training"),
    ("rebuilt", False, "not known", "(whether they were trained on is not known: the model was trained on other data)"),
    ("strangers", False, "not known", "the model was trained on other data)"),
    ("same", None, "not known", "its checkpoint does not record its training data)"),
  ],
)
def test_each_kind_of_data_under_new_and_old_checkpoints(dataset, tmp_path, data, recorded, field, text):
  scored = dataset
  if data == "rebuilt":
    scored = split_anew(tmp_path, ("p0", "p1", "p5"))
  elif data == "strangers":
    scored = strangers(tmp_path)
  saved = checkpoint_metadata.training_data(dataset)
  trained = saved if recorded else None if recorded is None else without_record(saved)
  seen = seen_people.seen_people([trained], scored, scored.people("eval"))
  assert seen.field == field and seen.text.endswith(text)


def test_people_of_the_weights_that_a_run_started_from_count(dataset, tmp_path):
  rebuilt = split_anew(tmp_path, ("p0", "p1", "p5"))
  first, then = checkpoint_metadata.training_data(dataset), checkpoint_metadata.training_data(rebuilt)
  people = rebuilt.people("eval")
  assert seen_people.seen_people([then], rebuilt, people).trained_on == 0
  assert seen_people.seen_people([then, first], rebuilt, people).trained_on == 2
  assert seen_people.seen_people([then, without_record(first)], rebuilt, people).trained_on is None
  assert seen_people.seen_people([then, None], rebuilt, people).trained_on is None


def test_a_run_that_goes_on_with_other_people_remembers_the_first(dataset):
  one, all_five = (checkpoint_metadata.training_data(dataset, {"max_participants": n}) for n in (1, 0))
  assert seen_people.went_on(one, one, same_days=True) == one
  back = seen_people.went_on(all_five, one, same_days=False)
  assert seen_people.known_counts(back) == (5, None) and seen_people.counts_text(back) == "days of 5 people"
  assert seen_people.seen_people([back], dataset, ["p0", "p1"]).trained_on == 2
  assert seen_people.went_on(without_record(one), one, same_days=True) == one
  assert seen_people.RECORD not in seen_people.went_on(without_record(one), one, same_days=False)


def test_a_run_that_goes_on_says_that_this_version_chooses_other_days(dataset, capsys):
  """As with max_participants and max_missing of a version that chose people after their fuller days."""
  config = config_files.resolve(tiny.CONFIG, [*tiny.on(dataset), "--config.data.max_participants=2"])

  def told(chosen_by, going_on=config):
    saved, now = (
      checkpoint_metadata.run_metadata(of_run, dataset)
      | {"training_data": checkpoint_metadata.training_data(dataset, subset)}
      for of_run, subset in ((config, chosen_by), (going_on, config_files.subset(going_on)))
    )
    checkpoint_metadata.check_resumable(saved, now, "run")
    return capsys.readouterr().out

  assert told(config_files.subset(config)) == ""
  assert "run: this version chooses other training days by the same limits: 4 days of 2 people, until" in told({})
  other = config_files.resolve(tiny.CONFIG, [*tiny.on(dataset), "--config.data.max_participants=3"])
  assert told(config_files.subset(config), other) == "run: data.max_participants is now 3 (was 2)\n"


@pytest.mark.parametrize("mode", ["heldout", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_scores_on_a_rebuilt_split_say_whom_the_model_knows(workdir, tmp_path, mode):
  rebuilt = split_anew(tmp_path, ("p0", "p1", "p5"))
  ended = tiny.run(*command(rebuilt, workdir), f"--mode={mode}")
  assert ended.code == 0, ended.err
  assert "3 people, of whom 2 were trained on (by their ids)" in ended.out
  assert "never seen in training" not in ended.out
  if mode == "heldout":
    content = json.loads((workdir / "heldout.json").read_text())
    assert (content["participants"], content["days"], content["seen_in_training"]) == (5, 10, "2 of 3")
    assert "2 steps on 10 days of 5 people; 6 days of 3 people" in ended.out
  else:
    rows = list(csv.DictReader((workdir / "generative.csv").read_text().splitlines()))
    assert {row["seen_in_training"] for row in rows if row["model"] == "LSM-2"} == {"2 of 3"}
    assert {row["seen_in_training"] for row in rows if row["model"] == "linear"} == {""}


def test_scores_on_the_same_data_read_as_before(dataset, workdir):
  ended = tiny.run(*command(dataset, workdir), "--mode=heldout")
  assert ended.code == 0, ended.err
  assert "2 steps on 10 days of 5 people; 6 days of 3 others: loss" in ended.out and "note: " not in ended.out


def test_an_export_has_numbers_and_no_digest_of_a_person(dataset, trained, tmp_path):
  aim.load(trained).save(tmp_path / "exported")
  digests = checkpoint.read(trained).training_data[seen_people.RECORD][seen_people.DIGESTS]
  assert len(digests) == 5
  everything = b"".join(path.read_bytes() for path in (tmp_path / "exported").iterdir())
  assert not any(digest.encode() in everything for digest in digests)
  model = aim.load(tmp_path / "exported")
  assert seen_people.known_counts(model.training_data) == (5, 10)
  assert model.seen_people(dataset, dataset.people("eval")).trained_on == 0
  history = [{"checkpoint": "x", "training_data": checkpoint_metadata.training_data(dataset)}, {"training_data": None}]
  kept = seen_people.without_digests({"training_data": None, "history": history})
  assert seen_people.DIGESTS not in json.dumps(kept) and kept["history"][0]["training_data"]["content"]


def test_an_old_checkpoint_says_that_nobody_recorded_it(tmp_path):
  golden.unpacked(next(golden.FOLDER.glob("0.1.0/lsm2.zip")), tmp_path)
  model = aim.load(tmp_path)
  assert seen_people.counts_text(model.training_data) == ""
  for evaluated, field in ((3, "none"), (4, "not known")):  # it was trained on the first five people
    scored = tiny.dataset(tmp_path, f"scored_{evaluated}", evaluated=evaluated)
    assert model.seen_people(scored, scored.people("eval")).field == field
