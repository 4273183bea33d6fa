"""The model card of an exported model: README.md, filled from what the checkpoint, the run and its people know."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aim.common.config_files import ConfigError
from aim.inference.uncertainty import BINS, LEVELS, Uncertainty
from aim.training.checkpoint import Restored
from aim.training.trained import exported, source
from data_pipelines.errors import SchemaError
from data_pipelines.text_files import counted, percentage, plain_number, read_text

# What people may write about a model, in a YAML file for --card; every key may be left out.
TEXTS = ("title", "summary", "licence", "citation", "notes")
LISTS = ("data", "not_for")
OF_A_DATASET = ("name", "people", "days", "terms", "source")

_NOT_FOR = (
  "Diagnosis, treatment or any other medical decision: it is no medical device, and nobody has validated it as one.",
  "Finding out who somebody is, or joining days of one person across data sets.",
  "A measurement in place of a sensor: it fills in what is usual, and a rare event is what it knows least about.",
  "People, devices and habits unlike those that it was trained on, without scores on some of them first.",
)
_CITATION = 'Xu et al. 2025, "LSM-2: Learning from Incomplete Wearable Sensor Data", and the data named above.'


def read_facts(path: str | pathlib.Path) -> dict[str, Any]:
  """Reads the YAML file of facts that people wrote about a model.

  Raises:
    ConfigError: the file cannot be read, is no YAML, or has an unknown key or a value of another kind.
  """
  try:
    content = yaml.safe_load(read_text(path))
  except SchemaError as error:
    raise ConfigError(str(error)) from None
  except yaml.YAMLError as error:
    raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
  return checked_facts({} if content is None else content, str(path))


def checked_facts(facts: Any, where: str) -> dict[str, Any]:
  """The facts, once it is known that all of them can be written into a card.

  Args:
    facts: texts under TEXTS; "data", a list of mappings with OF_A_DATASET, of which only "name" is needed; "not_for", a
      list of texts.
    where: begins the message.

  Raises:
    ConfigError: an unknown key, or a value of another kind.
  """
  if not isinstance(facts, Mapping):
    raise ConfigError(f"{where}: is a {type(facts).__name__}, expected keys among {', '.join((*TEXTS, *LISTS))}")
  for key, value in facts.items():
    if key not in (*TEXTS, *LISTS):
      raise ConfigError(f"{where}: key {key!r} is unknown, expected {', '.join((*TEXTS, *LISTS))}")
    if key in TEXTS and not isinstance(value, str):
      raise ConfigError(f"{where}: {key} is {value!r}, expected text")
    if key in LISTS and (not isinstance(value, Sequence) or isinstance(value, str)):
      raise ConfigError(f"{where}: {key} is {value!r}, expected a list")
  for number, line in enumerate(facts.get("not_for", ()), start=1):
    if not isinstance(line, str):
      raise ConfigError(f"{where}: not_for, entry {number}, is {line!r}, expected text")
  for number, dataset in enumerate(facts.get("data", ()), start=1):
    if not isinstance(dataset, Mapping) or not isinstance(dataset.get("name"), str) or set(dataset) - {*OF_A_DATASET}:
      raise ConfigError(
        f"{where}: data, entry {number}, is {dataset!r}, expected a name, and keys among {', '.join(OF_A_DATASET)}"
      )
    for key, value in dataset.items():
      if not isinstance(value, int if key in ("people", "days") else str) or isinstance(value, bool):
        raise ConfigError(f"{where}: data, entry {number}: {key} is {value!r}, expected {_KIND[key]}")
  return dict(facts)


_KIND = {key: "a whole number" if key in ("people", "days") else "text" for key in OF_A_DATASET}
TRAINED_ON_MARK = "trained on: "  # in a table of scores: not all of its people were never seen


def text(restored: Restored, dtype: str, facts: Mapping[str, Any], trained_on: str = "", scores: str = "") -> str:
  """A model card in Markdown.

  Args:
    restored: the model.
    dtype: how its parameters are stored.
    facts: from read_facts.
    trained_on: a line on the people and days of the training data, where they are known.
    scores: Markdown of the scores on people never seen, where there are any.
  """
  config = restored.config
  name = str(config.get("name", "LSM-2"))
  title = facts.get("title") or name
  size, has_decoder = sum(array.size for array in restored.params.values()), restored.architecture.projection is None
  sections = [
    _front_matter(facts),
    f"# {title}",
    facts.get("summary")
    or f"{name}: a model of days of wearable sensors, trained with AIM. It embeds days"
    + (" and fills their holes." if has_decoder else "."),
    "## Load it",
    "```python\nimport aim\n\nmodel = aim.load(...)  # this folder, or hf://owner/name where it is published\n"
    "model.embed(days)  # float32 [days, steps, channels] in the units below, NaN where missing\n"
    + ("model.impute(days)  # the same days with their holes filled\n" if has_decoder else "")
    + "```",
    "Without this library, `model.safetensors` is read by any reader of safetensors, such as that of PyTorch. "
    "`config.json` holds the resolved config of the training run.",
    "## Days that it takes",
    f"{counted(restored.schema.steps, 'step')} of {counted(restored.schema.minutes_per_step, 'minute')}, and these "
    "channels. Mean, SD, minimum and maximum are those of the observed training values.",
    _channel_table(restored),
    "## Trained on",
    _data(restored, facts, trained_on),
    "## Training",
    _training(restored, size, dtype),
    "## Scores" if TRAINED_ON_MARK in scores else "## Scores on people never seen",
    scores or "None were measured for this export. `--mode=evaluate` and `--mode=probe` measure them.",
    "## How sure it is",
    _uncertainty(restored),
    "## What it is not for",
    "\n".join(f"- {line}" for line in (*_NOT_FOR, *facts.get("not_for", ()))),
  ]
  if facts.get("notes"):
    sections += ["## Notes", facts["notes"].strip()]
  sections += ["## Licence", facts.get("licence") or "Not stated by those who exported it; ask them before using it."]
  sections += ["## Citation", facts.get("citation") or _CITATION]
  return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _uncertainty(restored: Restored) -> str:
  found = restored.metadata.get(source.UNCERTAINTY_KEY)
  if found is None:
    return "Nobody measured it for this export, so it gives no intervals. `--mode=calibrate` does, before an export."
  known, level = Uncertainty.from_dict(found, restored.schema, "uncertainty"), LEVELS[-1]
  rows = [
    (name, *(f"{value:.2f}" for value in known.errors[name][level]), percentage(100 * shares[level]))
    for name, shares in known.channel_coverage.items()
  ]
  heading = "Half widths of the 90 % intervals, in SDs of the training data, by distance, and how many held the value:"
  return "\n\n".join([known.text(), heading, table(("channel", *BINS, "held"), rows)])


def _front_matter(facts: Mapping[str, Any]) -> str:
  """The YAML header of a card, which model hubs read."""
  about: dict[str, Any] = {"library_name": "lsm2-aim", "tags": ["wearables", "time-series", "jax"]}
  if facts.get("licence"):
    about = {"license": facts["licence"].strip().lower()} | about
  return f"---\n{yaml.safe_dump(about, sort_keys=False).strip()}\n---"


def _channel_table(restored: Restored) -> str:
  statistics = restored.metadata["statistics"]
  columns = zip(restored.schema.channels, *(statistics[key] for key in ("mean", "std", "min", "max")), strict=True)
  rows = [
    (channel.name, "0 or 1" if channel.kind == "binary" else channel.unit or "-", *map(plain_number, numbers))
    for channel, *numbers in columns
  ]
  return table(("channel", "unit", "mean", "SD", "minimum", "maximum"), rows)


def _data(restored: Restored, facts: Mapping[str, Any], trained_on: str) -> str:
  saved = restored.training_data or {}
  known = (
    f"Dataset `{saved['name']}`, content {saved['content']}." if saved else "The checkpoint does not name its data."
  )
  lines = [f"{known} {trained_on}"]
  if facts.get("data"):
    rows = [
      [f"{value:,}" if isinstance(value, int) else value or "not stated" for value in map(entry.get, OF_A_DATASET)]
      for entry in facts["data"]
    ]
    lines.append(table(("data", "people", "days", "terms", "source"), rows))
  else:
    lines.append("Terms of the data: not stated by those who exported it.")
  return "\n\n".join(line.strip() for line in lines)


def _training(restored: Restored, size: int, dtype: str) -> str:
  config = restored.config
  ema = config.optimizer.ema
  lines = [
    f"{size:,} parameters, stored in {dtype}" + (f"; the moving average of training (decay {ema:g})." if ema else "."),
    f"{counted(restored.step, 'step')} of {counted(config.batch_size, 'day')} each, method `{config.method}`, "
    f"seed {config.seed}.",
  ]
  version = exported.vocabulary_version(restored)
  if version is not None:
    lines.append(f"Channels have their places from version {version} of the channel vocabulary.")
  lines += [_start(entry) for entry in restored.metadata.get("history", ())]
  return "\n".join(f"- {line}" for line in lines)


def _start(entry: Mapping[str, Any]) -> str:
  """A line on weights that a run started from."""
  if {"checkpoint", "step", "digest"} <= entry.keys():
    return (
      f"Started from the weights of `{exported.without_folder(entry['checkpoint'])}` after {entry['step']:,} steps, "
      f"digest {entry['digest']}."
    )
  return f"Before that: {json.dumps(entry)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table in Markdown; what would end a field of it is escaped."""
  line = lambda fields: (
    f"| {' | '.join(str(field).replace('|', chr(92) + '|').replace(chr(10), ' ') for field in fields)} |"
  )
  return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])
