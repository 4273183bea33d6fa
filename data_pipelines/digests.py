"""Digests of a dataset's files as they were built, so that damage and replaced content are noticed.

DATASET/digests.json holds the size and the BLAKE2b digest of every file. Small files are compared with it when a
dataset is opened or before they are read. Shards can hold 240 GB, which nobody hashes before training: their sizes and
the digests of their ends are compared, which tells one shard from another, and each record has a 64-bit hash of its
own, written by array_record and checked whenever it is read. Where ends differ because records are damaged, reading
these records says so; all other days can be read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Collection, Mapping

from array_record.python import array_record_module

from data_pipelines.errors import DatasetError, first_line

FILE = "digests.json"
FORMAT = 2  # 1 had no digests of the ends of shards
_BYTES = 16
# What says where days came from or describes them. All else is the content that models learn from.
_DESCRIPTIONS = ("README.md", "account.csv", "dataset_info.json", "features.json", "recipe.yaml", "request.json")
_RECORDS = ".array_record"  # in the names of shards
_END_BYTES = 64 * 2**10


@dataclasses.dataclass(frozen=True)
class FileDigest:
  """Size and digests of a file as it was built.

  Attributes:
    size: in bytes.
    blake2b: BLAKE2b digest of the file, 32 hex digits.
    ends: the same of the first and the last 64 KiB of a shard; "" of other files and in datasets of format 1.
  """

  size: int
  blake2b: str
  ends: str = ""

  @classmethod
  def of(cls, path: str | os.PathLike) -> FileDigest:
    """Reads and digests a file."""
    with open(path, "rb") as file:
      content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES))
      size = file.tell()
    return cls(size, content.hexdigest(), _ends(path) if _RECORDS in os.path.basename(path) else "")


@dataclasses.dataclass(frozen=True)
class Digests:
  """The digests of a dataset's files.

  Attributes:
    folder: the dataset.
    files: by name; empty for a dataset that was built before there were digests.
  """

  folder: pathlib.Path
  files: Mapping[str, FileDigest]

  @classmethod
  def of_folder(cls, folder: pathlib.Path, known: Mapping[str, FileDigest]) -> Digests:
    """Digests the files of a folder, except those that are `known` already, such as shards."""
    files = {path.name: known.get(path.name) or FileDigest.of(path) for path in sorted(folder.iterdir())}
    return cls(folder, {name: file for name, file in files.items() if name != FILE})

  def save(self) -> None:
    """Writes digests.json."""
    files = {name: _identity(file) | ({"ends": file.ends} if file.ends else {}) for name, file in self.files.items()}
    raw = {"format": FORMAT, "files": files, "check": _digest(files)}
    (self.folder / FILE).write_text(json.dumps(raw, indent=2) + "\n")

  @classmethod
  def load(cls, folder: pathlib.Path) -> Digests:
    """Reads digests.json.

    Raises:
      DatasetError: it is damaged, or of a later version of this project.
    """
    path = folder / FILE
    try:
      raw = json.loads(path.read_bytes())
      if raw["format"] > FORMAT:
        raise DatasetError(f"{path}: format {raw['format']}, expected at most {FORMAT}; it needs a later version")
      if raw["check"] != _digest(raw["files"]):
        raise ValueError("its own check does not hold")
      return cls(folder, {name: FileDigest(**file) for name, file in raw["files"].items()})
    except FileNotFoundError:
      return cls(folder, {})
    except DatasetError:
      raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
      raise DatasetError(
        f"{path}: damaged, build the dataset again or restore it from a copy: {first_line(error)}"
      ) from None

  @property
  def content(self) -> str:
    """32 hex digits that differ if the days, people, labels, events or statistics do.

    Where the dataset lies, what it was built from and its description do not matter. Without digests.json, small files
    are read, and shards enter with their names and sizes.
    """
    return self._of_files(lambda name: name not in _DESCRIPTIONS)

  def of_split(self, split: str) -> str:
    """32 hex digits that differ if the days of a split, the schema or the statistics do; read as for `content`."""
    days = f"-{split}{_RECORDS}"
    return self._of_files(lambda name: days in name or name in ("schema.json", "statistics.npz"))

  def _of_files(self, belongs: Callable[[str], bool]) -> str:
    files = self.files or {
      path.name: FileDigest(path.stat().st_size, "") if _RECORDS in path.name else FileDigest.of(path)
      for path in sorted(self.folder.iterdir())
      if not path.name.startswith("missing_")  # written by readers
    }
    return _digest({name: _identity(file) for name, file in files.items() if belongs(name)})

  def check(self, *names: str) -> None:
    """Compares files with their digests; names that were not built are not compared.

    Raises:
      DatasetError: a file is missing, cannot be read, or is not what was built.
    """
    for name in names:
      if name in self.files:
        self._check_size(name)
        if FileDigest.of(self.folder / name).blake2b != self.files[name].blake2b:
          raise self._damaged(name, "its content is not what was built")

  def check_small(self, except_for: Collection[str] = ()) -> None:
    """Compares the files that every reader needs: all but shards, descriptions for people, and `except_for`.

    Raises:
      DatasetError: a file is missing, cannot be read, or is not what was built.
    """
    left_out = {"README.md", "account.csv", "recipe.yaml", *except_for}
    self.check(*(name for name in self.files if _RECORDS not in name and name not in left_out))

  def check_shards(self, days: Mapping[str, int]) -> None:
    """Compares the sizes and the ends of shards, which takes a fraction of a millisecond each.

    The end of a shard holds the index of its records, so even large shards with equal beginnings differ there. A shard
    with damaged records and an index that is whole is not refused: whoever reads such a day hears of it then.

    Args:
      days: number of records of each shard, by its name.

    Raises:
      DatasetError: a shard is missing, has another size, is another shard, or its index is damaged.
    """
    for name, count in days.items():
      if name in self.files:
        self._check_size(name)
        path, ends = self.folder / name, self.files[name].ends
        if ends and _ends(path) != ends and not _has_damaged_records(path, count):
          raise self._damaged(name, "its content is not what was built")

  def _check_size(self, name: str) -> None:
    try:
      size = (self.folder / name).stat().st_size
    except OSError as error:
      raise self._damaged(name, (error.strerror or "cannot be read").lower()) from None
    if size != self.files[name].size:
      raise self._damaged(name, f"{size:,} bytes, expected {self.files[name].size:,}")

  def _damaged(self, name: str, fault: str) -> DatasetError:
    return DatasetError(f"{self.folder / name}: {fault}; build the dataset again or restore it from a copy")


def _ends(path: str | os.PathLike) -> str:
  """Digest of the first and the last 64 KiB of a file; of a file of up to 128 KiB, all of it."""
  with open(path, "rb") as file:
    content = hashlib.blake2b(file.read(_END_BYTES), digest_size=_BYTES)
    file.seek(max(os.fstat(file.fileno()).st_size - _END_BYTES, file.tell()))
    content.update(file.read())
  return content.hexdigest()


def _has_damaged_records(path: pathlib.Path, count: int) -> bool:
  """True if a shard has an index of `count` records, of which some cannot be read; reads all up to the first of them.

  If all can be read, it is another shard.
  """
  try:
    reader = array_record_module.ArrayRecordReader(str(path))
    if reader.num_records() != count:
      return False
  except RuntimeError:  # no index
    return False
  try:
    for record in range(count):
      reader.read([record])
  except RuntimeError:
    return True
  finally:
    reader.close()
  return False


def _identity(file: FileDigest) -> dict[str, int | str]:
  """Size and digest, which identify a file; the same in every format, so that datasets keep their digests."""
  return {"size": file.size, "blake2b": file.blake2b}


def _digest(value: object) -> str:
  return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=_BYTES).hexdigest()
