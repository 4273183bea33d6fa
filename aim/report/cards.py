"""Data card, model card and config."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from aim.common import config_files
from aim.common.seen_people import counts_text
from aim.inference.pretrained import Pretrained
from aim.report.workdir import Workdir
from data_pipelines.dataset import Dataset
from data_pipelines.page.blocks import Block, Code, Section, Table, TextLine, number, percent
from data_pipelines.splits import SPLITS
from data_pipelines.text_files import counted

LICENSE = "Apache-2.0"
USE = (
  "Research on days of wearable-sensor data: embeddings, gap filling, probes. This is not a medical device: it "
  "diagnoses nobody, and a filled-in value is an expectation, not a measurement."
)
LIMITS = (
  "The model knows only the channels, the clock and the kind of people in its training data. The results here hold for "
  "held-out people of the same data; other devices or cohorts need their own evaluation. Values that were hidden on "
  "purpose may differ from those that a device loses."
)


def data_card(workdir: Workdir) -> list[Block]:
  """The data card: people, days, splits, channels, labels and how they were built."""
  if workdir.dataset is None:
    return [TextLine(f"No data card: {workdir.missing['dataset']}", "hint")]
  dataset = workdir.dataset
  table = dataset.participants()
  of_split = {split: (len(dataset.people(split)), dataset.num_days(split)) for split in SPLITS}
  splits = [[split, *counts] for split, counts in of_split.items()]
  splits.append(["all", *np.sum(list(of_split.values()), axis=0).tolist()])
  return [
    TextLine(
      f"{dataset.name}: each day has {counted(dataset.schema.steps, 'step')} of {dataset.schema.minutes_per_step} min."
    ),
    Table("People and days per split; nobody is in two splits", ["split", "people", "days"], splits),
    _channels(dataset),
    _labels(table),
    Code("How the dataset was built", json.dumps(dataset.request, indent=2)),
  ]


def _channels(dataset: Dataset) -> Table:
  s, days = dataset.statistics, max(dataset.num_days("pretrain"), 1)
  missing = 1 - s.count / (days * dataset.schema.steps)
  rows = [
    [c.name, c.unit, c.sensor, c.kind, percent(float(missing[i])), number(float(s.mean[i])), number(float(s.std[i]))]
    for i, c in enumerate(dataset.schema.channels)
  ]
  columns = ["channel", "unit", "sensor", "kind", "missing", "mean", "SD"]
  return Table("Channels, with statistics of the training people", columns, rows, folded=len(rows) > 12)


def _labels(table: pa.Table) -> Table:
  rows = []
  for name in table.column_names:
    if name in ("participant", "split", "days"):
      continue
    known = [value for value in table[name].to_pylist() if value is not None]
    numeric = known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if numeric and len(set(known)) > 4:
      spread = f"{number(float(min(known)))} to {number(float(max(known)))}, mean {number(float(np.mean(known)))}"
    else:
      spread = ", ".join(f"{value}: {known.count(value)}" for value in sorted(set(known), key=str)[:12])
    rows.append([name, len(known), spread])
  return Table("Labels", ["label", "people", "values"], rows)


def model_cards(workdirs: Sequence[Workdir]) -> list[Block]:
  """The model cards: architecture, training, intended use and limits."""
  blocks = [block for workdir in workdirs for block in _model(workdir)]
  return [*blocks, TextLine(f"Intended use: {USE}"), TextLine(f"Limits: {LIMITS}")]


def _model(workdir: Workdir) -> list[Block]:
  if workdir.model is None:
    return [TextLine(f"No model card: {workdir.missing['model']}", "hint"), workdir.hint("checkpoint", "pretrain")]
  config, a = workdir.model.config, workdir.model.architecture
  tower = lambda t: f"{counted(t.layers, 'layer')}, width {t.width}, {counted(t.heads, 'head')}, MLP {t.mlp}"
  last = workdir.train_log[-1] if workdir.train_log else {}
  facts = [
    ["name", workdir.label],
    ["kind", _kind(workdir.model)],
    [
      "input",
      f"{a.channels} channels x {a.length} patches of {config.model.patch_minutes} min = {a.tokens} tokens",
    ],
    ["encoder", tower(a.encoder)],
    ["decoder", tower(a.decoder)],
    ["parameters", f"{parameter_count(workdir):,}"],
    ["trained on", _trained_on(workdir.model)],
    ["steps", f"{workdir.model.trained_steps:,} of {counted(config.batch_size, 'day')} each"],
    ["optimiser", f"AdamW, learning rate {config.optimizer.learning_rate:g}, EMA {config.optimizer.ema:g}"],
    ["last training loss", number(float(last.get("loss", math.nan)))],
    ["seed", config.seed],
    ["license", f"{LICENSE} (the program; the data may have other terms)"],
  ]
  return [Table(workdir.label, ["", ""], facts)]


def _trained_on(model: Pretrained) -> str:
  """The data that a model was trained on, by its checkpoint."""
  saved = model.training_data
  if saved is None:
    return f"{model.config.data.name or 'not recorded'}, without its held-out people"
  counts = counts_text(saved)
  return f"{saved['name']}, {f'{counts}, ' if counts else ''}without its held-out people"


def _kind(model: Pretrained) -> str:
  if not model.has_decoder:
    return f"contrastive encoder of day windows ({model.config.method}); it has no decoder"
  if model.config.data.impute != "none":
    return f"masked autoencoder of days whose gaps were imputed first ({model.config.data.impute})"
  return "masked autoencoder over sets of (patch, position) tokens; missing tokens are left out (AIM)"


def parameter_count(workdir: Workdir) -> int:
  """Number of the model's parameters."""
  assert workdir.model is not None
  return sum(int(np.prod(array.shape)) for array in workdir.model.params.values())


def config_section(workdirs: Sequence[Workdir]) -> Section:
  """The resolved configs; with several workdirs, the values that differ come first."""
  resolved = {w.label: config_files.to_dict(w.model.config if w.model else w.config) for w in workdirs}
  blocks: list[Block] = []
  if len(resolved) > 1:
    flat = {label: dict(config_files.leaves(config)) for label, config in resolved.items()}
    keys = sorted(set().union(*flat.values()))
    rows = [[key, *(str(values.get(key, "–")) for values in flat.values())] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    blocks.append(Table("Values that differ", ["key", *flat], rows, folded=len(rows) > 30))
  blocks += [Code(f"Resolved config of {label}", json.dumps(config, indent=2)) for label, config in resolved.items()]
  return Section("config", "Config", blocks)
