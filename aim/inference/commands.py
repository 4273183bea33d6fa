"""--mode=embed, impute and export: days to embeddings or filled days, and a model to a folder that can be shared."""

from __future__ import annotations

import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Shaped

from aim.common import config_files, datasets, output_files
from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.common.seen_people import known_counts
from aim.inference import loading, matched_days, model_card, stablehlo
from aim.inference.clipped_channels import ClippedChannel, told
from aim.inference.pretrained import Pretrained
from aim.runtime import processes
from aim.training.trained import exported, openmhc
from data_pipelines import npz
from data_pipelines.dataset import Dataset, dataset_path
from data_pipelines.day_windows.missing_codes import code_notes
from data_pipelines.loader import eval_loader
from data_pipelines.remote.objects import is_remote
from data_pipelines.schema import SchemaError
from data_pipelines.subset import chosen_days, day_owners
from data_pipelines.text_files import counted, replacing


def embed(trained: str, data: str, data_dir: str, split: str, output: str, own_vocabulary: str | None = None) -> None:
  """Writes one embedding per day, and prints what was written. Several processes share the work.

  Args:
    trained: a workdir or a checkpoint.
    data: an npz file of days, or the name of a dataset in data_dir.
    data_dir: folder of the datasets.
    split: of the dataset: pretrain, tune, eval or all.
    output: .parquet with columns participant, date, e000, e001, ...; or .npz with arrays embedding, participant, date.
    own_vocabulary: see loading.load.

  Raises:
    ConfigError: `output` has another suffix, cannot be written, or is what is read.
    CheckpointError: there is no usable checkpoint.
    SchemaError: the days are not of the model's schema, or one of them has nothing observed.
  """
  suffix = pathlib.Path(output).suffix
  if suffix not in (".parquet", ".npz"):
    raise ConfigError(f"--output={output}: ends in {suffix!r}, expected .parquet or .npz")
  if processes.is_first_process():
    output_files.check_file(output, f"--output={output}")
    folder_or_file = data if data.endswith(".npz") else dataset_path(data_dir, data)
    output_files.check_not_input(output, f"--output={output}", folder_or_file, f"--data={data}")
  if data.endswith(".npz"):
    model, dataset = loading.load_for_npz(trained, data, own_vocabulary), None
  else:
    model, dataset = loading.load_for(trained, Dataset.open(data_dir, data), own_vocabulary=own_vocabulary)
  embedding, participant, date = _embed_all(model, *_batches(model, data, dataset, split))
  if not processes.is_first_process():
    return
  with output_files.naming(f"--output={output}"), replacing(pathlib.Path(output)) as unfinished:
    write_embedding(unfinished, suffix, embedding, participant, date)
  people = len(set(participant.tolist()))
  print(f"{output}: {counted(len(embedding), 'day')} of {counted(people, 'person')}, {embedding.shape[1]} numbers each")


def write_embedding(
  path: pathlib.Path,
  suffix: str,
  embedding: Float[np.ndarray, "days features"],
  participant: Shaped[np.ndarray, " days"],
  date: Shaped[np.ndarray, " days"],
) -> None:
  """Writes embeddings of days in the format of a suffix, .parquet or .npz."""
  if suffix == ".npz":
    with path.open("wb") as file:
      np.savez_compressed(file, embedding=embedding, participant=participant, date=date)
    return
  import pyarrow as pa
  import pyarrow.parquet as pq

  columns = {f"e{i:03d}": embedding[:, i] for i in range(embedding.shape[1])}
  pq.write_table(pa.table({"participant": participant, "date": date, **columns}), path)


def impute(
  trained: str, source: str, output: str, own_vocabulary: str | None = None, statistics: str = "checkpoint"
) -> None:
  """Writes days with their missing values filled, and prints how many were filled.

  Args:
    trained: a workdir or a checkpoint.
    source: npz file of days.
    output: .npz, with the arrays of `source` and `filled`, bool [days, steps, channels], which values were filled.
    own_vocabulary: see loading.load.
    statistics: see normalised_for().

  Raises:
    ConfigError: `output` has another suffix, cannot be written, or is what is read.
    CheckpointError: there is no usable checkpoint.
    SchemaError: the days are not of the model's schema, are filled already, or the model has no decoder.
  """
  if pathlib.Path(output).suffix != ".npz":
    raise ConfigError(f"--output={output}: expected a name ending in .npz")
  output_files.check_file(output, f"--output={output}")
  output_files.check_not_input(output, f"--output={output}", source, f"--input={source}")
  model = loading.load_for_npz(trained, source, own_vocabulary)
  matching = matched_days.npz_matching(source, model.schema, model.vocabulary, model.zero_is_missing)
  days = npz.read_days(source, schema=matching.source, allow_empty_days=True)
  if "filled" in days.original:
    raise SchemaError(f"{source}: has the key 'filled', so its missing values are filled already")
  _print_notes(days)
  missing = matching.missing(days.values)
  model, _ = normalised_for(model, model.matched_days(matching, days.values, source), source, statistics)
  whose = {"people": days.participant, "dates": days.day}
  values = model.impute_matched(matching, days.values, progress=True, where=source, **whose)
  filled = missing & ~np.isnan(values)
  with output_files.naming(f"--output={output}"):
    npz.write_days(output, days.original, values, {"filled": filled})
  percent = 100 * filled.mean()
  print(
    f"{output}: filled {filled.sum():,} of {counted(filled.size, 'value')} ({percent:.1f} %) "
    f"in {counted(len(filled), 'day')}"
  )


def normalised_for(
  model: Pretrained, values: Float[np.ndarray, "days steps channels"], where: str, statistics: str
) -> tuple[Pretrained, list[ClippedChannel]]:
  """The model that fills days, given whose statistics normalise the channels that it would clip, and these channels.

  Args:
    model: as it was loaded.
    values: the days, in the model's schema.
    where: names them.
    statistics: "checkpoint", the model as it is, which prints a note if there are such channels; or "data", the model
      of Pretrained.normalised_by_days.

  Raises:
    SchemaError: the values are infinite; the message begins with `where`.
  """
  clipped = model.clipped_channels(model.checked_days(values, where))
  if statistics == "data":
    return model.normalised_by(clipped), clipped
  names, others = told(clipped)
  if names:
    print(f"note: {where}: clipped: {names}; --statistics=data normalises by these days instead", file=sys.stderr)
  if others:
    print(f"note: {where}: clipped: {others}", file=sys.stderr)
  return model, clipped


def export(
  trained: str,
  output: str,
  dtype: str,
  overwrite: bool,
  card: str | None,
  scores: Callable[[Pretrained], str],
  format: str = "aim",
) -> None:
  """Writes a trained model as a folder of safetensors and JSON, perhaps with a model card, and prints what was written.

  Args:
    trained: whatever aim.load takes.
    output: the folder to make.
    dtype: see Pretrained.save.
    overwrite: see Pretrained.save.
    card: YAML file of what only people know about the model (aim/inference/model_card.py).
    scores: Markdown of the scores of a model.
    format: see Pretrained.save; or "stablehlo", functions for JAX (aim/inference/stablehlo.py).

  Raises:
    ConfigError: `output` exists or cannot be written, or `card` or `dtype` is wrong.
    CheckpointError: there is no usable model, or a parameter is beyond the range of dtype.
  """
  facts = model_card.read_facts(card) if card else {}
  own_names = {"aim": exported.FILES, "openmhc": openmhc.FILES, "stablehlo": stablehlo.FILES}[format]
  exported.check_target(pathlib.Path(output).absolute(), overwrite, own_names)
  if format == "stablehlo":
    stablehlo.check_installed(f"--format={format}")
    if dtype != "float32" or card:
      raise ConfigError(f"--format={format}: has no model card and no other dtype; leave out --card and --export_dtype")
  model = loading.load(trained)
  if format == "stablehlo":
    stablehlo.write(model, output, overwrite)
  else:
    model.save(output, dtype, overwrite, facts, _trained_on(model), scores(model), format)
  size = sum(path.stat().st_size for path in pathlib.Path(output).iterdir())
  parameters = sum(array.size for array in model.params.values())
  print(f"{output}: {parameters:,} parameters in {dtype}, {model.trained_steps:,} steps, {size / 1e6:.2f} MB")
  if format != "aim":
    return
  unstated = [what for key, what in (("licence", "licence"), ("data", "terms of its data")) if not facts.get(key)]
  if unstated:
    print(f"note: {output}/{exported.CARD} states no {' and no '.join(unstated)}; --card=FILE.yaml can")


def _trained_on(model: Pretrained) -> str:
  """Says on how many people and days a model was trained; "" where its checkpoint does not and its dataset is gone."""
  data, saved = model.config.data, model.training_data
  people, days = known_counts(saved)
  if people is not None and days is not None:
    return f"{counted(people, 'person')}, {counted(days, 'day')}."
  if saved is None or is_remote(data.dir) or not dataset_path(data.dir, saved["name"]).is_dir():
    return ""
  dataset = datasets.as_configured(Dataset.open(data.dir, saved["name"]), data)
  if dataset.digest_of("pretrain") != saved["pretrain"]:
    return ""
  chosen = chosen_days(dataset, "pretrain", **config_files.subset(model.config))
  owners = set(day_owners(dataset, "pretrain")[0][chosen].tolist())
  return f"{counted(len(owners), 'person')}, {counted(len(chosen), 'day')}."


def _print_notes(days: npz.DayArrays) -> None:
  if processes.is_first_process():
    for note in (*days.notes, *code_notes(days.schema, days.values)):
      print(f"note: {note}")


def _batches(
  model: Pretrained, data: str, dataset: Dataset | None, split: str
) -> tuple[Iterator[dict[str, np.ndarray]], int]:
  """Batches of values, participant and date from an npz file or a dataset, and the number of days in all.

  With n processes each gets every n-th of the batches that a single process with as many devices would have.
  """
  process_index, process_count = processes.process_index_and_count()
  if dataset is None:
    matching = matched_days.npz_matching(data, model.schema, model.vocabulary, model.zero_is_missing)
    days = npz.read_days(data, schema=matching.source)
    values = model.matched_days(matching, days.values, data)
    model.checked_days(values, data, empty_days=False)
    _print_notes(days)
    columns = {"values": values, "participant": days.participant, "date": days.date}
    starts = range(process_index * model.days_at_once, len(days.values), process_count * model.days_at_once)
    cut = lambda start: slice(start, start + model.days_at_once)
    return ({name: array[cut(start)] for name, array in columns.items()} for start in starts), len(days.values)
  model.check_dataset(dataset)
  splits = [name for name in ("pretrain", "tune", "eval") if dataset.num_days(name)] if split == "all" else [split]
  size = process_count * model.days_at_once
  batches = (
    {name: array[batch["weight"] > 0] for name, array in batch.items()}
    for name in splits
    for batch in eval_loader(
      dataset, split=name, batch_size=size, process_index=process_index, process_count=process_count
    )
  )
  return batches, sum(dataset.num_days(name) for name in splits)


def _embed_all(
  model: Pretrained, batches: Iterator[dict[str, np.ndarray]], total: int
) -> tuple[Float[np.ndarray, "days features"], Shaped[np.ndarray, " days"], Shaped[np.ndarray, " days"]]:
  """Embeddings, participants and dates of all days; each process computes its own batches and gets all."""
  parts = []
  with progress_bar(total, "embed", "day") as bar:
    for batch in batches:
      empty = not len(batch["values"])  # such a batch only pairs up with those of the other processes
      parts.append(None if empty else (model.embed(batch["values"]), batch["participant"], batch["date"]))
      bar.update(processes.process_index_and_count()[1] * len(batch["values"]))
  by_turn = itertools.zip_longest(*processes.gather(parts))
  in_order = [part for turn in by_turn for part in turn if part is not None]
  return tuple(np.concatenate(arrays) for arrays in zip(*in_order, strict=True))  # type: ignore[return-value]
