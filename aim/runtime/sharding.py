"""The device mesh ("data", "fsdp", "tensor") and where each parameter lives on it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import UserError

AXES = ("data", "fsdp", "tensor")

# First match wins; every parameter must match. Specs name the axis of each array dimension.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
  (r"qkv/kernel$", PartitionSpec("fsdp", None, "tensor", None)),  # [width, 3, heads, head_dim]
  (r"attention/out/kernel$", PartitionSpec("tensor", None, "fsdp")),  # [heads, head_dim, width]
  (r"mlp/up/kernel$", PartitionSpec("fsdp", "tensor")),
  (r"mlp/down/kernel$", PartitionSpec("tensor", "fsdp")),
  (r"(patch_embedding|evidence_embedding|bridge)/kernel$", PartitionSpec(None, "fsdp")),
  # Not over tensor too: on a 2 x 2 x 2 mesh XLA then gave DINO a wrong gradient (jax 0.10.2; tests/training/test_contrastive_step.py).
  (r"projection/\d+/kernel$", PartitionSpec("fsdp", None)),
  (r"prototypes$", PartitionSpec("fsdp", None)),
  (r"head/kernel$", PartitionSpec("fsdp", None)),
  (r"(bias|scale|mask_token)$", PartitionSpec()),
)


def make_mesh(
  data: int = -1, fsdp: int = 1, tensor: int = 1, slices: int = 1, planned: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh over all devices, or over `planned`; data = -1 takes what the other axes leave.

  With `slices` above 1, of TPUs or of boxes of GPUs, data alone goes from one to another over the slower network.
  UserError if the product does not fit.
  """
  present = jax.devices() if planned is None else list(planned)
  devices = len(present)
  if data == -1 and fsdp > 0 and tensor > 0 and devices % (fsdp * tensor) == 0:
    data = devices // (fsdp * tensor)
  if min(data, fsdp, tensor) < 1 or data * fsdp * tensor != devices:
    raise UserError(f"config.mesh: data {data} x fsdp {fsdp} x tensor {tensor} does not equal {devices} devices")
  if slices == 1:
    return jax.make_mesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3, devices=present)
  grid = _hybrid((data, fsdp, tensor), slices, present)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def _hybrid(shape: tuple[int, int, int], slices: int, present: Sequence[Any]) -> np.ndarray:
  """Devices [data, fsdp, tensor] of which a slice's stand together."""
  data, fsdp, tensor = shape
  if slices < 1 or data % slices:
    raise UserError(f"config.mesh.slices is {slices}, expected a divisor of data, {data}")
  # Where JAX tells no slices apart, a process (a box of GPUs) is one.
  kinds = {name: {getattr(device, name, None) for device in present} for name in ("slice_index", "process_index")}
  name = next((name for name, found in kinds.items() if len(found) == slices), None)
  if name is None:
    found = len(kinds["slice_index"]), len(kinds["process_index"])
    raise UserError(f"config.mesh.slices is {slices}, but there are {found[0]} slices of {found[1]} processes in all")
  return mesh_utils.create_hybrid_device_mesh(
    (data // slices, fsdp, tensor), (slices, 1, 1), devices=present, process_is_granule=name == "process_index"
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Windows over data and fsdp."""
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  """The rule of a parameter, without the axes that do not divide its dimension."""
  for pattern, spec in RULES:
    if re.search(pattern, name):
      axes = [a if a and shape[i] % mesh.shape[a] == 0 else None for i, a in enumerate(spec)]
      return PartitionSpec(*axes)
  raise ValueError(f"aim/runtime/sharding.py: no sharding rule matches parameter {name!r}")


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


def bytes_per_device(tree: Any, shardings: Any) -> int:
  """Of arrays (or their shapes) so sharded."""

  def size(leaf: Any, sharding: NamedSharding) -> int:
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

  return sum(jax.tree.leaves(jax.tree.map(size, tree, shardings)))


def sharding_table(params: dict[str, Any], shardings: dict[str, NamedSharding]) -> str:
  """Where each parameter lives: a line each of name, shape, spec and bytes on a device, and their sum."""
  rows = [("parameter", "shape", "spec", "bytes a device")]
  for name, leaf in params.items():
    spec = ", ".join(str(axis) if axis else "-" for axis in shardings[name].spec) or "replicated"
    held = bytes_per_device(leaf, shardings[name])
    rows.append((name, "x".join(map(str, leaf.shape)), spec, f"{held:,}"))
  numbers = sum(math.prod(leaf.shape) for leaf in params.values())
  rows.append(("all", f"{numbers:,}", "", f"{bytes_per_device(params, shardings):,}"))
  widths = [max(len(row[i]) for row in rows) for i in range(4)]
  line = lambda row: "  ".join(
    x.rjust(w) if i == 3 else x.ljust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True))
  )
  return "\n".join(line(row) for row in rows)
