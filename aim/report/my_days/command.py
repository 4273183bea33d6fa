"""--mode=report of days of one's own: reads them, computes, and writes the page and the files beside it."""

from __future__ import annotations

import pathlib

from aim.common import output_files
from aim.common.config_files import ConfigError
from aim.inference import commands, loading
from aim.report.my_days import own_days, sections
from aim.report.my_days.filled_days import FilledDays, fill
from data_pipelines import npz
from data_pipelines.page import chart, document
from data_pipelines.remote.objects import is_remote
from data_pipelines.text_files import counted, replace_text

OUTPUT = "my_days"
PAGE, FILLED, EMBEDDINGS = "index.html", "filled.npz", "embeddings.parquet"
_FILES = (
  (FILLED, "all days in their own channels, with their holes filled; its array `filled` says which values were"),
  (EMBEDDINGS, "participant, date, and the model's embedding of each day"),
)


def write(
  trained: str,
  source: str | None,
  importer: str,
  timezone: str | None,
  data: str | None,
  data_dir: str,
  split: str,
  output: str | None,
  own_vocabulary: str | None = None,
  statistics: str = "checkpoint",
) -> None:
  """Embeds, fills and draws days of one's own, and prints what was written. Nothing else stays on the disk.

  Args:
    trained: whatever aim.load takes.
    source: an export of a device, or an npz file of days; None for `data`.
    importer: that reads an export; "auto" finds it.
    timezone: IANA zone of people whose export has only UTC times.
    data: the name of a dataset in `data_dir`, or an npz file of days.
    data_dir: folder of the datasets.
    split: of the dataset: pretrain, tune, eval or all.
    output: a file ending in .html for the page alone, or a folder for the page, filled.npz and embeddings.parquet;
      None for the folder my_days.
    own_vocabulary: a YAML file that extends the vocabulary of channels.
    statistics: see aim.inference.commands.normalised_for.

  Raises:
    ConfigError: both or none of `source` and `data` are given, or the output cannot be written.
    CheckpointError: there is no usable model.
    SchemaError: the days cannot be read, or none of their channels is one of the model's.
  """
  if bool(source) == bool(data):
    raise ConfigError("--mode=report of your own days takes either --input or --data, not both")
  target = pathlib.Path(_checked_output(output or OUTPUT, str(source or data)))
  alone = target.suffix == ".html"
  model = loading.load(trained, own_vocabulary=own_vocabulary)
  model.one_program = True
  if source or str(data).endswith(".npz"):
    print(f"reading {source or data}", flush=True)
    days = own_days.read(str(source or data), importer, timezone, model.schema.minutes_per_step)
  else:
    days = own_days.of_dataset(data_dir, str(data), split)
  made = fill(model, days, statistics)
  for note in made.days.notes:
    print(f"note: {note}")
  with chart.style():
    parts = sections.sections(model, made, () if alone else _FILES)
    text = document.render(parts, f"My days: {days.origin}", "days", files=False)
  with output_files.naming(f"--output={target}"):
    if alone:
      replace_text(target, text)
    else:
      with output_files.replaced_together(target, (PAGE, FILLED, EMBEDDINGS)) as unfinished:
        _write_files(made, unfinished)
        (unfinished / PAGE).write_text(text, encoding="utf-8")
  page = target if alone else target / PAGE
  print(f"{page}: {counted(len(made.days.values), 'day')}, {page.stat().st_size / 1e6:.1f} MB")


def _checked_output(output: str, source: str) -> str:
  """The output, once it is known that it can be written and is not what is read.

  Raises:
    ConfigError: it is not.
  """
  flag = f"--output={output}"
  if is_remote(output):
    raise ConfigError(f"{flag}: expected a folder or an .html file on this machine, from where it can be copied")
  check = output_files.check_file if output.endswith(".html") else output_files.check_folder
  for path in [output] if output.endswith(".html") else [f"{output}/{name}" for name in (PAGE, FILLED, EMBEDDINGS)]:
    output_files.check_not_input(path, flag, source, f"--input={source}")
  check(output, flag)
  if not output.endswith(".html"):
    output_files.remove_unfinished(output)  # at once: they may be days of another person
  return output


def _write_files(made: FilledDays, folder: pathlib.Path) -> None:
  ends = {
    f"{name}_{100 * level:.0f}": end
    for level, pair in made.intervals.items()
    for name, end in zip(("low", "high"), pair, strict=True)
  }
  npz.write_days(folder / FILLED, made.days.arrays(), made.filled, {"filled": made.missing, **ends})
  commands.write_embedding(folder / EMBEDDINGS, ".parquet", made.embedding, made.days.participant, made.days.date)
