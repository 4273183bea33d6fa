"""--mode=heldout: a checkpoint's loss on people never seen, under masks that are the same for every model of its kind.

Two measures. "loss" is what the model was trained for, so it compares models with the same masking and patches. "mse"
is the generative task random 80 % (aim/evaluation/generative/contest.py), scored on the same values for every model.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int

from aim.common.progress import progress_bar
from aim.common.seen_people import counts_text, known_counts
from aim.evaluation.generative.contest import MODEL_BATCHES, HeldoutDays, run_contest
from aim.evaluation.generative.tasks import GenerativeTask
from aim.inference.pretrained import Pretrained
from aim.model import flops, lsm2
from aim.model.heldout import heldout_errors
from aim.runtime import compile_options, processes, sharding
from data_pipelines.dataset import Dataset
from data_pipelines.schema import SchemaError
from data_pipelines.text_files import counted, json_text, replace_text

FILE = "heldout.json"
TASK = GenerativeTask("random", 80)


def heldout(config: ml_collections.ConfigDict, trained: Pretrained, dataset: Dataset, workdir: pathlib.Path) -> None:
  """Writes workdir/heldout.json: both measures on the days of config.evaluate, with their sums per person.

  The file also holds the training's size and cost.

  Args:
    config: the whole config; config.evaluate chooses the days.
    trained: the model.
    dataset: gives the people to score.
    workdir: folder of the run.

  Raises:
    UserError: the model has no decoder or does not fit the dataset, or nothing can be scored.
  """
  trained.check_unseen_people(dataset)
  trained.check_has_decoder("--mode=heldout")
  model_alone = config.evaluate.copy_and_resolve_references()
  model_alone.imputers = ()
  days = HeldoutDays(model_alone, trained, dataset)
  people, window_flops = _sum_by_person(trained, days)
  scores = run_contest(trained, days, (TASK,), {})
  for person, sums in scores.sums[TASK, trained.name].items():
    # The keys are those of files that exist; "cells" counts the scored values of each channel.
    people[person] |= {"cells": sums[0].tolist(), "squared": sums[1].tolist()}
  if not processes.is_first_process():
    return
  seen = trained.seen_people(dataset, people)
  facts = _training_facts(trained, dataset, window_flops) | {"seen_in_training": seen.field}
  content = facts | measures(people) | {"people": people}
  for key in ("loss", "mse"):
    if not np.isfinite(content[key]):
      raise SchemaError(
        f"--mode=heldout: the {key} of {trained.name} on {dataset.name} is {content[key]}, from "
        f"{sum(sums.get('scored', 0) for sums in people.values()):,.0f} scored values; nothing is written"
      )
  replace_text(workdir / FILE, json_text(content, indent=1) + "\n")
  trained_on = counts_text(trained.training_data) or "people and days that its checkpoint does not record"
  scored = counted(len(people), "other") if seen.trained_on == 0 else seen.text
  print(
    f"{trained.name}, {counted(trained.trained_steps, 'step')} on {trained_on}; {counted(days.count, 'day')} of "
    f"{scored}: loss {content['loss']:.4f}, {TASK.label} mse {content['mse']:.4f}"
  )
  print(workdir / FILE)


def measures(people: dict[str, dict[str, Any]]) -> dict[str, float]:
  """loss and mse over people: errors per scored value, for mse the mean over the channels that have scored values.

  Args:
    people: {person: sums}, as in heldout.json.
  """
  total = lambda key: np.sum([sums[key] for sums in people.values() if key in sums], axis=0)
  squared, count = total("squared"), total("cells")
  known = count > 0
  return {
    "loss": float(total("error") / total("scored")),
    "mse": float((squared[known] / count[known]).mean()),
  }


def _training_facts(trained: Pretrained, dataset: Dataset, window_flops: float) -> dict[str, Any]:
  """Size and cost of the training, at so many useful FLOPs per window."""
  config = trained.config
  people, days = known_counts(trained.training_data)  # those of the dataset that is scored may be others
  windows = trained.trained_steps * config.batch_size
  return {
    "dataset": dataset.name,
    "model": trained.name,
    "seed": config.seed,
    "steps": trained.trained_steps,
    "windows": windows,
    "parameters": lsm2.count_parameters(trained.params),
    "participants": people,
    "days": days,
    "flops": windows * window_flops,  # useful FLOPs, forward and backward (aim/model/flops.py)
  }


def _sum_by_person(trained: Pretrained, days: HeldoutDays) -> tuple[dict[str, dict[str, Any]], float]:
  """{person: error, a sum over `scored` steps}, and the mean useful FLOPs per window."""
  sums_of_days = objective(trained, days.config.seed)
  people: dict[str, dict[str, Any]] = {}
  size, total_flops = trained.days_per_batch(MODEL_BATCHES * days.config.batch_size), 0.0
  process_index, process_count = processes.process_index_and_count()
  with progress_bar(days.count, "held-out loss", "day") as bar:
    for batch in days.batches(process_index, process_count):
      for start in range(0, len(batch["values"]), size):
        values, place = (batch[name][start : start + size] for name in ("values", "place"))
        short = size - len(values)  # padded, so that one shape is compiled
        padded = np.pad(values, ((0, short), (0, 0), (0, 0)), constant_values=np.nan)
        profile = days.profile({"position": batch["position"][start : start + size]}) or ()
        more = (np.pad(array, ((0, short), (0, 0), (0, 0))) for array in profile)
        batch_on_devices = sharding.divided((padded, np.pad(place, (0, short)), *more), trained.mesh)
        sums = sums_of_days(trained.params_on_mesh, *batch_on_devices)
        error, scored, counts = (np.asarray(array)[: len(values)] for array in sums)
        total_flops += float(flops.useful_flops(trained.architecture, jnp.asarray(counts)))
        for i, name in enumerate(batch["participant"][start : start + size].tolist()):
          person = people.setdefault(name, {"error": 0.0, "scored": 0.0})
          person["error"] += float(error[i])
          person["scored"] += float(scored[i])
        bar.update(process_count * len(values))
  parts = processes.gather((people, total_flops))
  total: dict[str, dict[str, Any]] = {}
  for of_process, _ in parts:
    for name, person in of_process.items():
      before = total.get(name, {})
      total[name] = {key: before.get(key, 0.0) + value for key, value in person.items()}
  return total, sum(part for _, part in parts) / days.count


def objective(
  trained: Pretrained, seed: int
) -> Callable[..., tuple[Float[Array, " b"], Float[Array, " b"], Int[Array, "b 3"]]]:
  """A compiled function of (parameters, days, their places among the scored days), computed by all devices.

  A model that reads other days takes mean and count of these too (data_pipelines/context/profile.py).

  The number of devices must divide that of days. It returns each day's sum of squared errors, its number of scored
  values and its token counts (aim/model/buffer_sizes.py).

  Args:
    trained: gives architecture, masking and scale.
    seed: seed of the masks.
  """
  graph = lsm2.abstract(trained.architecture)[0]

  def sums(params: dict[str, Array], values: Float[Array, "b s c"], place: Int[Array, " b"], *profile: Array) -> tuple:
    network, key = lsm2.merge(graph, params), jax.random.key(seed)
    return heldout_errors(network, trained.masking, trained.scale, trained.imputation, key, values, place, *profile)

  arrays = 4 if trained.context_days else 2
  placement = sharding.replicated(trained.mesh), *(sharding.batch_sharding(trained.mesh),) * arrays
  options = compile_options.compiler_options()
  return jax.jit(sharding.on_own_windows(sums, trained.mesh), in_shardings=placement, compiler_options=options)
