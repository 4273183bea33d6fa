"""--mode=heldout: a checkpoint's loss on people never seen, under masks that are the same for every model of its kind.

Two measures. "loss" is what the model was trained for, so it compares models with the same masking and patches. "mse"
is the generative task random 80 % (aim/evaluation/generative/contest.py), scored on the same values for every model.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int

from aim.common import config_files
from aim.common.progress import progress_bar
from aim.evaluation.generative import contest
from aim.evaluation.generative.contest import HeldoutDays
from aim.evaluation.generative.tasks import GenerativeTask
from aim.inference.pretrained import Pretrained
from aim.model import buffer_sizes, flops, loss, lsm2, masking, patches
from aim.model.masking import TokenSet
from aim.runtime import compile_options, processes
from data_pipelines.dataset import Dataset
from data_pipelines.subset import chosen_days, day_owners

FILE = "heldout.json"
TASK = GenerativeTask("random", 80)


def heldout(config: ml_collections.ConfigDict, trained: Pretrained, dataset: Dataset, workdir: pathlib.Path) -> None:
  """Writes workdir/heldout.json: both measures on the days of config.evaluate, their sums for each person, and what
  the training took."""
  trained.check_dataset(dataset)
  trained.check_has_decoder("--mode=heldout")
  quiet = config.evaluate.copy_and_resolve_references()
  quiet.imputers = ()
  days = HeldoutDays(quiet, trained, dataset)
  people, window = _objective(trained, days)
  scores = contest.contest(trained, days, (TASK,), {})
  for person, sums in scores.sums[TASK, trained.name].items():
    people[person] |= {"cells": sums[0].tolist(), "squared": sums[1].tolist()}
  if not processes.is_first_process():
    return
  told = _training(trained, dataset, window) | measures(people) | {"people": people}
  fresh = workdir / f"{FILE}.new"
  fresh.write_text(json.dumps(told, indent=1) + "\n")
  fresh.replace(workdir / FILE)
  print(
    f"{trained.name}, {trained.trained_steps} steps on {told['days']:,} days of {told['participants']:,} people; "
    f"{days.wanted} days of {len(people)} others: loss {told['loss']:.4f}, {TASK.label} mse {told['mse']:.4f}"
  )
  print(workdir / FILE)


def measures(people: dict[str, dict[str, Any]]) -> dict[str, float]:
  """loss and mse of people's sums: errors over scored cells; of mse the mean over channels that have cells."""
  of_people = lambda key: np.sum([person[key] for person in people.values() if key in person], axis=0)
  squared, cells = of_people("squared"), of_people("cells")
  known = cells > 0
  return {
    "loss": float(of_people("error") / of_people("scored")),
    "mse": float((squared[known] / cells[known]).mean()),
  }


def _training(trained: Pretrained, dataset: Dataset, window: float) -> dict[str, Any]:
  """What the model was made of; `window`: useful FLOPs of a window."""
  config = trained.config
  kept = chosen_days(dataset, "pretrain", **config_files.subset(config))
  windows = trained.trained_steps * config.batch_size
  return {
    "dataset": dataset.name,
    "model": trained.name,
    "seed": config.seed,
    "steps": trained.trained_steps,
    "windows": windows,
    "parameters": lsm2.count_parameters(trained.params),
    "participants": len(set(day_owners(dataset, "pretrain")[0][kept])),
    "days": len(kept),
    "flops": windows * window,  # useful ones, forward and backward (aim/model/flops.py)
  }


def _objective(trained: Pretrained, days: HeldoutDays) -> tuple[dict[str, dict[str, Any]], float]:
  """{person: error, a sum over `scored` steps}, and the mean useful FLOPs of a window."""
  sums = objective(trained, days.config.seed)
  people: dict[str, dict[str, Any]] = {}
  size, work = days.config.batch_size, 0.0
  process_index, process_count = processes.process_index_and_count()
  with progress_bar(days.wanted, "held-out loss", "day") as bar:
    for block in days.blocks(process_index, process_count):
      for start in range(0, len(block["values"]), size):
        values, place = (block[name][start : start + size] for name in ("values", "place"))
        short = size - len(values)  # filled up, so that one shape is compiled
        padded = np.pad(values, ((0, short), (0, 0), (0, 0)), constant_values=np.nan)
        found = sums(trained.params, jnp.asarray(padded), jnp.asarray(np.pad(place, (0, short))))
        error, scored, counts = (np.asarray(each)[: len(values)] for each in found)
        work += float(flops.useful_flops(trained.architecture, jnp.asarray(counts)))
        for i, name in enumerate(block["participant"][start : start + size].tolist()):
          person = people.setdefault(name, {"error": 0.0, "scored": 0.0})
          person["error"] += float(error[i])
          person["scored"] += float(scored[i])
        bar.update(process_count * len(values))
  parts = processes.gather((people, work))
  total: dict[str, dict[str, Any]] = {}
  for of_people, _ in parts:
    for name, sums in of_people.items():
      before = total.get(name, {})
      total[name] = {key: before.get(key, 0.0) + value for key, value in sums.items()}
  return total, sum(work for _, work in parts) / days.wanted


def objective(
  trained: Pretrained, seed: int
) -> Callable[
  [dict[str, Array], Float[Array, "b s c"], Int[Array, " b"]],
  tuple[Float[Array, " b"], Float[Array, " b"], Int[Array, "b 3"]],
]:
  """A compiled function of (parameters, days, their places).

  It gives each day's sum of errors, scored steps and token counts (aim/model/buffer_sizes.py).
  """
  a, scale = trained.architecture, trained.scale
  graph = lsm2.abstract(a)[0]
  size = buffer_sizes.textbook(a.tokens, trained.masking.dropped_count(a.channel_groups, a.length), a.decoder_tokens)

  def sums(params: dict[str, Array], values: Float[Array, "b s c"], place: Int[Array, " b"]) -> tuple:
    tokens = fixed_tokens(trained, jax.random.key(seed), values, place)
    parts = loss.predictions(lsm2.merge(graph, params), tokens, jnp.asarray(scale.binary), size)
    error, scored = jax.vmap(loss.reconstruction_error)(*(part[:, None] for part in parts))
    return error, scored, buffer_sizes.token_counts(tokens)

  return jax.jit(sums, compiler_options=compile_options.compiler_options())


def fixed_tokens(
  trained: Pretrained, key: jax.Array, values: Float[Array, "b s c"], place: Int[Array, " b"]
) -> TokenSet:
  """Days hidden as in training, by a mask that depends on the key and a day's place alone: not on the network, nor on
  the batch."""
  a = trained.architecture
  z, observed = (
    patches.fold(x, a.patch_channels) for x in patches.normalised_days(trained.scale, values, trained.imputation)
  )

  def draw(place: Int[Array, ""]) -> tuple[Array, Array]:
    mask_key, order_key = jax.random.split(jax.random.fold_in(key, place))
    hidden = masking.artificial_mask(mask_key, trained.masking, a.channel_groups, a.length, a.patch_values)
    return hidden, jax.random.uniform(order_key, (a.tokens,))

  hidden, shuffle = jax.vmap(draw)(place)
  return masking.sorted_token_set(trained.masking, z, observed, a.patch_values, hidden, shuffle)
