"""Many runs as one experiment: a runner of resumable jobs, and the studies that are built on it.

`compare` sets models side by side, `scaling` fits power laws; `fingerprints` says when a finished job counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aim.runtime.lazy_exports import lazy_getattr

if TYPE_CHECKING:
  from aim.studies.fingerprints import fingerprint
  from aim.studies.job_runner import CellError, Command, FinishedCommand, Job, StudyCell, StudyDataset, StudyModel

__all__ = [
  "CellError",
  "Command",
  "FinishedCommand",
  "Job",
  "StudyCell",
  "StudyDataset",
  "StudyModel",
  "fingerprint",
]

_MODULES = {
  "CellError": "job_runner",
  "Command": "job_runner",
  "FinishedCommand": "job_runner",
  "Job": "job_runner",
  "StudyCell": "job_runner",
  "StudyDataset": "job_runner",
  "StudyModel": "job_runner",
  "fingerprint": "fingerprints",
}

# Lazy, because importing jax takes seconds, and flags are checked before: experiments import aim.studies.defaults.
__getattr__ = lazy_getattr(__name__, _MODULES)
