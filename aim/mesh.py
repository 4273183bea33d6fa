"""The device mesh ("data", "fsdp", "tensor") and where each parameter lives on it."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.schema import UserError

AXES = ("data", "fsdp", "tensor")

# First match wins; every parameter must match. Specs name the axis of each array dimension.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
  (r"qkv/kernel$", PartitionSpec("fsdp", None, "tensor", None)),  # [width, 3, heads, head_dim]
  (r"attention/out/kernel$", PartitionSpec("tensor", None, "fsdp")),  # [heads, head_dim, width]
  (r"mlp/up/kernel$", PartitionSpec("fsdp", "tensor")),
  (r"mlp/down/kernel$", PartitionSpec("tensor", "fsdp")),
  (r"(patch_embedding|evidence_embedding|bridge)/kernel$", PartitionSpec(None, "fsdp")),
  # Not over tensor too: on a 2 x 2 x 2 mesh XLA then gave DINO a wrong gradient (jax 0.10.2; tests/test_view_step.py).
  (r"projection/\d+/kernel$", PartitionSpec("fsdp", None)),
  (r"prototypes$", PartitionSpec("fsdp", None)),
  (r"head/kernel$", PartitionSpec("fsdp", None)),
  (r"(bias|scale|mask_token)$", PartitionSpec()),
)


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over all devices; data = -1 takes what the other axes leave. UserError if the product does not fit."""
  devices = jax.device_count()
  if data == -1 and fsdp > 0 and tensor > 0 and devices % (fsdp * tensor) == 0:
    data = devices // (fsdp * tensor)
  if min(data, fsdp, tensor) < 1 or data * fsdp * tensor != devices:
    raise UserError(f"config.mesh: data {data} x fsdp {fsdp} x tensor {tensor} does not equal {devices} devices")
  return jax.make_mesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Windows over data and fsdp."""
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  """The rule of a parameter, without the axes that do not divide its dimension."""
  for pattern, spec in RULES:
    if re.search(pattern, name):
      axes = [a if a and shape[i] % mesh.shape[a] == 0 else None for i, a in enumerate(spec)]
      return PartitionSpec(*axes)
  raise ValueError(f"aim/mesh.py: no sharding rule matches parameter {name!r}")


def state_shardings(state: Any, params: dict[str, Any], mesh: Mesh) -> Any:
  """Shardings of a train state: every leaf under a parameter's name (moments, EMA) lives where the parameter does."""

  def sharding(path: tuple, leaf: Any) -> NamedSharding:
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and key.key in params]
    if names and leaf.shape == params[names[-1]].shape:
      return NamedSharding(mesh, parameter_spec(names[-1], leaf.shape, mesh))
    return NamedSharding(mesh, PartitionSpec())

  return jax.tree_util.tree_map_with_path(sharding, state)


def put_batch(values: np.ndarray, mesh: Mesh) -> jax.Array:
  """This host's windows [b / hosts, ...] as its part of the global batch [b, ...]."""
  return jax.make_array_from_process_local_data(batch_sharding(mesh), values)
