"""--mode=finetune from the command line: what it writes, prints and refuses; a killed run continues where it was."""

from __future__ import annotations

import json
import pathlib
import signal
import time

import numpy as np
import pytest

from aim.evaluation import predictions
from aim.evaluation.results import read_csv
from data_pipelines.build import build, npz_request
from data_pipelines.npz import NpzSource
from data_pipelines.splits import ListSplit
from data_pipelines.text_files import file_name
from tests import tiny

PEOPLE = 20
CONFIG = f"--config={tiny.CONFIG}"
RUN = {
  "probe.min_people": 4,
  "probe.window_minutes": 180,
  "probe.min_people_a_class": 2,
  "finetune.label_percent": "(5, 30, 100)",
  "finetune.steps": 4,
  "finetune.tune_every": 2,
  "finetune.batch_size": 8,
  "finetune.bootstrap": 20,
}


def labelled(folder: pathlib.Path, tune: int = 4):
  """20 people whose pulse shows "fast" and thereby their age; each day has a labelled walk."""
  arrays = tiny.arrays(people=PEOPLE)
  fast = {f"p{i}": i % 2 == 0 for i in range(PEOPLE)}
  rows = np.array([fast[p] for p in arrays["participant"]])
  arrays["values"][rows, :, 0] += 30
  labels = {p: {"fast": yes, "age": 30 + 20 * yes + int(p[1:]) % 5} for p, yes in fast.items()}
  arrays["labels"] = np.array(json.dumps(labels))
  walks = np.full((len(rows), 24, 1), -1, np.int8)
  walks[:, 6:9], walks[:, 12:18] = 1, 0
  arrays |= {"minute_labels": walks, "minute_label_names": np.array(["walking"])}
  np.savez(folder / "labelled.npz", **arrays)
  people = list(NpzSource(folder / "labelled.npz").participants)
  split = ListSplit(tuple(people[: 14 - tune]), tuple(people[14 - tune : 14]), tuple(people[14:]))
  path = folder / "labelled.npz"
  return build(NpzSource(path), folder / "data", "labelled", split=split, request=npz_request(path))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  return labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  assert tiny.run(CONFIG, *tiny.on(dataset), *tiny.overrides(), f"--workdir={workdir}").code == 0
  return workdir


def command(dataset, trained, workdir, **changes) -> list[str]:
  settings = RUN | {key.replace("__", "."): value for key, value in changes.items()}
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  where = [f"--checkpoint={trained}", f"--workdir={workdir}", "--mode=finetune"]
  return [CONFIG, *tiny.on(dataset), *tiny.overrides(), *flags, *where]


def run_finetune(dataset, trained, workdir, **changes) -> tiny.Ended:
  return tiny.run(*command(dataset, trained, workdir, **changes))


@pytest.mark.slow
def test_learning_curves_from_the_command_line(dataset, trained, tmp_path):
  ended = run_finetune(dataset, trained, tmp_path, probe__tasks="('fast', 'age', 'walking')")
  assert ended.code == 0, ended.err
  lines = read_csv(tmp_path / "finetune/results.csv")
  scored = {(r.task, r.level, r.model) for r in lines}
  models = ("LSM-2", "ViT supervised", "ResNet supervised", "constant")
  for model in models:
    for percent in (30, 100):
      assert {
        ("fast", f"{percent} % of labels, person", model),
        ("walking", f"{percent} % of labels, window", model),
      } <= scored
  assert not any(r.level.startswith("5 %") for r in lines)
  assert "left out: fast at 5 % of the labels (seed 0): 0 of 10 people, at least 2 are needed" in ended.out
  assert {r.n_people for r in lines} == {6}
  assert all(0 <= r.value <= 1 for r in lines if r.metric == "accuracy" and not np.isnan(r.value))
  assert "fast, person, auroc: LSM-2 against ViT supervised: 30 % of labels: " in ended.out
  assert "age, person, mae: LSM-2 against ResNet supervised: 30 % of labels: " in ended.out
  assert (tmp_path / "finetune/learning_curve.png").read_bytes().startswith(b"\x89PNG")
  assert str(tmp_path / "finetune/results.csv") in ended.out
  cells = {path.stem: json.loads(path.read_text())["cell"] for path in (tmp_path / "finetune/cells").glob("*.json")}
  assert len(cells) == 3 * 3 * 2
  few, everyone = cells["LSM-2-fast-30-0"], cells["LSM-2-fast-100-0"]
  assert set(few["people"]) < set(everyone["people"]) and not set(everyone["people"]) & set(everyone["tune_people"])
  assert cells[file_name("ViT supervised-fast-30-0")]["people"] == few["people"]
  assert set(everyone["tune_people"]) == set(dataset.people("tune"))
  assert not set(everyone["people"]) & set(dataset.people("eval"))
  # At 30 % the tune people are a share too, and the tables count everyone whose labels were seen.
  assert set(few["tune_people"]) < set(everyone["tune_people"])
  seen = {r.level.split(" %")[0]: r.n_labelled_people for r in lines if r.task == "fast"}
  counts = {"30": len(few["people"]) + len(few["tune_people"]), "100": len(dataset.people("pretrain")) + 4}
  assert seen == counts
  assert f"fast, 30 % of labels, person (6 people, labels of {counts['30']} seen)" in ended.out
  # A repeat computes nothing and prints the same.
  again = run_finetune(dataset, trained, tmp_path, probe__tasks="('fast', 'age', 'walking')")
  assert again.code == 0 and "there already: 18 of 18 trainings" in again.out
  assert list(map(repr, read_csv(tmp_path / "finetune/results.csv"))) == list(map(repr, lines))  # NaN is not NaN


@pytest.mark.slow
def test_a_killed_run_continues_where_it_was(dataset, trained, tmp_path):
  changes = {"finetune__tasks": "('fast',)", "finetune__compare": "()", "finetune__label_percent": "(30, 60, 100)"}
  process = tiny.start(*command(dataset, trained, tmp_path, **changes, finetune__steps=30))
  first = tmp_path / "finetune/cells/LSM-2-fast-30-0.json"
  deadline = time.monotonic() + tiny.HANGS_AFTER_SECONDS
  while not first.exists() and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert first.exists()
  written = first.stat().st_mtime_ns
  (tmp_path / "finetune/cells/LSM-2-fast-100-0.csv").write_text("cut short")
  ended = run_finetune(dataset, trained, tmp_path, **changes, finetune__steps=30)
  assert ended.code == 0, ended.err
  assert "of 3 trainings: " in ended.out
  assert first.stat().st_mtime_ns == written
  assert len(list((tmp_path / "finetune/cells").glob("*.json"))) == 3
  # Another task adds trainings; other settings make them different trainings.
  more = run_finetune(
    dataset, trained, tmp_path, **changes | {"finetune__tasks": "('fast', 'age')"}, finetune__steps=30
  )
  assert more.code == 0 and "there already: 3 of 6 trainings" in more.out
  assert first.stat().st_mtime_ns == written
  other = run_finetune(dataset, trained, tmp_path, **changes, finetune__steps=4)
  assert other.code == 0 and "are there already" not in other.out
  assert first.stat().st_mtime_ns != written


def test_without_tune_people_some_training_people_are_held_back(trained, tmp_path):
  dataset = labelled(tmp_path, tune=0)
  changes = {"probe__tasks": "('fast',)", "finetune__compare": "()", "finetune__label_percent": 100}
  ended = run_finetune(dataset, trained, tmp_path / "run", **changes, finetune__layers=0)
  assert ended.code == 0, ended.err
  (cell,) = [json.loads(path.read_text())["cell"] for path in (tmp_path / "run/finetune/cells").glob("*.json")]
  people, tune = set(cell["people"]), set(cell["tune_people"])
  assert tune and not people & tune and people | tune == set(dataset.people("pretrain"))
  lines = read_csv(tmp_path / "run/finetune/results.csv")
  assert {r.n_labelled_people for r in lines} == {len(people) + len(tune)}
  # The constant is the share of each class among the labelled days, for everyone; it ranks nobody.
  predicted = [p for p in predictions.read_csv(tmp_path / "run/finetune/predictions.csv") if p.model == "constant"]
  assert {p.level for p in predicted} == {"100 % of labels, day", "100 % of labels, person"}
  seen = [record for record in dataset.days("pretrain") if record["participant"].decode() in people | tune]
  share = np.mean([int(record["participant"][1:]) % 2 == 0 for record in seen])
  for p in predicted:
    np.testing.assert_allclose(p.predicted[:, list(p.classes).index("True")], share, rtol=1e-6)
  value = {(r.model, r.metric): r.value for r in lines if r.level.endswith("person")}
  assert value["constant", "auroc"] == 0.5
  assert value["LSM-2", "auroc vs constant"] == pytest.approx(value["LSM-2", "auroc"] - 0.5)
  assert "fast, person, auroc: LSM-2 against a constant: 100 % of labels: " in ended.out


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"compare": "('scrach',)"},
      "config.finetune.compare holds 'scrach', expected one of pretrained, scratch, resnet; the nearest is scratch",
    ),
    ({"layers": 2}, "config.finetune.layers is 2, expected -1 to 1, the encoder's blocks"),
    ({"label_percent": 1}, "config.finetune.label_percent: no share is large enough for any task"),
  ],
)
def test_bad_values_are_one_line(dataset, trained, tmp_path, changes, message):
  named = {f"finetune__{key}": value for key, value in changes.items()}
  ended = run_finetune(dataset, trained, tmp_path, **named, probe__tasks="('fast',)")
  assert ended.code == 2
  assert ended.err.strip().splitlines()[-1] == f"error: {message}"
