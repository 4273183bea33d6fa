"""Arrays of a file that torch.save wrote (.ckpt, .pt, .pth), read without PyTorch and without running its pickle.

The file is a zip archive (PyTorch 1.6 or later): NAME/data.pkl is a pickle of nested dicts, lists, numbers and
tensors, and NAME/data/KEY holds the values of a tensor's storage. The unpickler here knows the names in `_KNOWN` alone,
which stand for functions of this file that only keep what they are given. Any other name ends the reading.
"""

from __future__ import annotations

import collections
import contextlib
import io
import math
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from aim.training.checkpoint_metadata import CheckpointError
from data_pipelines.errors import first_line

_MOST_PICKLE_BYTES = 1 << 26  # tensors are not in the pickle
_DTYPES: dict[str, Any] = {
  "Float": np.float32,
  "Double": np.float64,
  "Half": np.float16,
  "BFloat16": jnp.bfloat16,
  "Long": np.int64,
  "Int": np.int32,
  "Short": np.int16,
  "Char": np.int8,
  "Byte": np.uint8,
  "Bool": np.bool_,
}


class _Refused(Exception):
  """The pickle names something that is no part of a tensor."""


class _Storage(NamedTuple):
  """Archive entry that holds the values of tensors."""

  key: str
  dtype: Any


class TensorEntry(NamedTuple):
  """A tensor that has not been read.

  Attributes:
    storage: its values, perhaps with those of other tensors.
    offset: of its first value in the storage.
    shape: its dimensions.
    strides: in values.
  """

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorEntry:
  return TensorEntry(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
  return data


class _Mapping(dict):
  """Stand-in for a mapping of Lightning."""


_KNOWN: dict[tuple[str, str], Any] = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("torch._utils", "_rebuild_tensor_v2"): _tensor,
  ("torch._utils", "_rebuild_parameter"): _parameter,
  ("torch", "Size"): tuple,
  **{("torch", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()},
  **{
    (module, "AttributeDict"): _Mapping
    for module in (
      "lightning.fabric.utilities.data",
      "lightning_fabric.utilities.data",
      "lightning.pytorch.utilities.parsing",
      "pytorch_lightning.utilities.parsing",
    )
  },
}


class _Unpickler(pickle.Unpickler):
  """Builds nested dicts and lists with TensorEntry in the place of tensors."""

  def find_class(self, module: str, name: str) -> Any:
    known = _KNOWN.get((module, name))
    if known is None:
      raise _Refused(f"{module}.{name}")
    return known

  def persistent_load(self, pid: Any) -> _Storage:
    _, dtype, key, _, _ = pid
    return _Storage(str(key), np.dtype(dtype))


class TorchFile:
  """An opened file.

  Attributes:
    content: what was saved, with TensorEntry in the place of tensors.
  """

  def __init__(self, path: str | os.PathLike, where: str):
    """Reads the pickle; tensors stay on disk.

    Args:
      path: a local file.
      where: names it in messages.

    Raises:
      CheckpointError: it is no such file, or its pickle names something that is no part of a tensor.
    """
    self._path, self._where = path, where
    with _one_line(where), zipfile.ZipFile(path) as archive:
      names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
      if len(names) != 1:
        raise CheckpointError(f"{where}: holds no data.pkl, as a file of torch.save does")
      self._root = names[0].removesuffix("data.pkl")
      order = f"{self._root}byteorder"
      if order in archive.namelist() and self._entry(archive, order) != b"little":
        raise CheckpointError(f"{where}: was written on a big-endian machine, expected little-endian")
      raw = self._entry(archive, names[0])
      if len(raw) > _MOST_PICKLE_BYTES:
        raise CheckpointError(f"{where}: its pickle has {len(raw):,} bytes, expected at most {_MOST_PICKLE_BYTES:,}")
      self.content: Any = _Unpickler(io.BytesIO(raw)).load()

  def array(self, name: str, tensor: TensorEntry) -> np.ndarray:
    """The values of a tensor; `name` names it in messages.

    Raises:
      CheckpointError: the archive does not hold them.
    """
    storage, offset, shape, strides = tensor
    with _one_line(f"{self._where}: array {name!r}"), zipfile.ZipFile(self._path) as archive:
      values = np.frombuffer(self._entry(archive, f"{self._root}data/{storage.key}"), storage.dtype)
      whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides)) and len(shape) == len(strides)
      last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if whole else 0
      count = math.prod(int(n) for n in shape) if whole else 0
      if not whole or count > len(values) or (count and last >= len(values)):
        raise CheckpointError(f"{self._where}: array {name!r} lies outside of what is stored")
      steps = tuple(stride * values.itemsize for stride in strides)
      return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False).copy()

  def _entry(self, archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:  # as torch.save writes; so an entry is no larger than the file
      raise CheckpointError(f"{self._where}: {name} is compressed, which torch.save does not do")
    return archive.read(info)


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
  """Turns whatever damaged files raise into one line."""
  try:
    yield
  except CheckpointError:
    raise
  except _Refused as error:
    raise CheckpointError(
      f"{where}: refused: its pickle names {error}, expected tensors and plain values alone; nothing of it was run"
    ) from None
  except zipfile.BadZipFile as error:
    reason = first_line(error, 200)
    raise CheckpointError(
      f"{where}: is no whole zip archive, as torch.save writes since PyTorch 1.6: {reason}"
    ) from None
  except Exception as error:
    raise CheckpointError(f"{where}: is damaged: {first_line(error, 200)}") from None


def tensors(content: Any) -> Mapping[str, TensorEntry]:
  """The tensors of a mapping such as a state dict; other entries are left out."""
  items = content.items() if isinstance(content, Mapping) else ()
  return {str(name): value for name, value in items if isinstance(value, TensorEntry)}
