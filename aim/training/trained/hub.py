"""Exported folders and releases of OpenMHC on a hub that huggingface_hub reaches, as hf://owner/name.

The revision is the newest or a given one.
The hub's address, the cache, offline use and access to private repositories are settings of that library
(HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, its own login).
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import re

from aim.training.checkpoint_metadata import CheckpointError
from aim.training.trained import exported, openmhc
from data_pipelines.errors import first_line

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 10.0  # until a hub that does not answer counts as out of reach


def is_on_hub(path: str | os.PathLike) -> bool:
  """True if a path names a model on the hub."""
  return os.fspath(path).startswith(SCHEME.rstrip("/"))  # with one slash too, which is a slip


def fetched(address: str) -> pathlib.Path:
  """The local copy of an exported folder on the hub.

  A revision that is a commit and is in the cache needs no network. Without a network the newest known commit of a
  branch or tag is taken from the cache, and a line says which.

  Args:
    address: hf://owner/name or hf://owner/name@revision; a revision is a branch, a tag or a commit.

  Raises:
    CheckpointError: the address is malformed, huggingface_hub is not installed, there is no such model or revision, or
      the hub cannot be reached and the cache does not have it (one line).
  """
  match = _ADDRESS.fullmatch(address)
  if match is None:
    raise CheckpointError(f"{address}: expected hf://owner/name or hf://owner/name@revision")
  try:
    from huggingface_hub import HfApi, errors, snapshot_download
  except ImportError:
    raise CheckpointError(
      f"{address}: needs the package huggingface_hub; install it with: pip install 'lsm2-aim[hub]'"
    ) from None
  repository, revision = match["repository"], match["revision"]
  endpoint = os.environ.get("HF_ENDPOINT") or None  # the library reads it only when it is imported
  options = {"revision": revision, "endpoint": endpoint, "allow_patterns": [*exported.FILES, *openmhc.PATTERNS]}
  fetch = functools.partial(snapshot_download, repository, **options)
  if _COMMIT.fullmatch(revision or ""):
    with contextlib.suppress(errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError):
      return pathlib.Path(fetch(local_files_only=True))
  try:
    HfApi(endpoint).model_info(repository, revision=revision, timeout=SECONDS)
    return pathlib.Path(fetch())
  except errors.RevisionNotFoundError:
    raise CheckpointError(f"{address}: the hub has no revision {revision!r} of this model") from None
  except (errors.RepositoryNotFoundError, errors.GatedRepoError):
    raise CheckpointError(f"{address}: the hub has no such model, or it is private and you have no access") from None
  except Exception as error:  # of the library that it reaches the hub with, which differs between its versions
    reason = f"cannot be fetched from the hub: {first_line(error, 200)}"
  try:
    folder = pathlib.Path(fetch(local_files_only=True))
  except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError):
    raise CheckpointError(f"{address}: {reason}; and there is no whole copy of it in the cache") from None
  print(f"{address}: {reason}; commit {folder.name} from the cache is used")
  return folder
