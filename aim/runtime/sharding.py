"""The device mesh ("data", "fsdp", "tensor") and where each parameter lives on it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import UserError

AXES = ("data", "fsdp", "tensor")
WINDOW_AXES = AXES[:2]  # those that share the windows of a batch

# The first match wins, and every parameter must match. A spec names the mesh axis of each array dimension.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
  (r"qkv/kernel$", PartitionSpec("fsdp", None, "tensor", None)),  # [width, 3, heads, head_dim]
  (r"attention/out/kernel$", PartitionSpec("tensor", None, "fsdp")),  # [heads, head_dim, width]
  (r"mlp/up/kernel$", PartitionSpec("fsdp", "tensor")),
  (r"mlp/down/kernel$", PartitionSpec("tensor", "fsdp")),
  (r"(patch_embedding|evidence_embedding|context_embedding|bridge)/kernel$", PartitionSpec(None, "fsdp")),
  # Not over "tensor" as well: two kernels in a row that are ("fsdp", "tensor") get a wrong gradient on a 2 x 2 x 2
  # mesh, because XLA multiplies wrongly with their transposes (jax 0.10.2, on CPUs; found with DINO). A minimal example
  # in tests/runtime/test_sharding.py fails once XLA is right.
  (r"projection/\d+/kernel$", PartitionSpec("fsdp", None)),
  (r"prototypes$", PartitionSpec("fsdp", None)),
  (r"(^|context_)head/kernel$", PartitionSpec("fsdp", None)),
  (r"(bias|scale|mask_token|skip_curves|context_curves)$", PartitionSpec()),
)


def make_mesh(
  data: int = -1, fsdp: int = 1, tensor: int = 1, slices: int = 1, planned: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh over all devices, or over `planned`. data = -1 takes what the other axes leave.

  With more than one of `slices` (TPU slices, or boxes of GPUs) only the data axis crosses the slower network between
  them.

  Raises:
    UserError: if the product of the axes is not the number of devices, or the slices do not fit.
  """
  present = jax.devices() if planned is None else list(planned)
  devices = len(present)
  if data == -1 and fsdp > 0 and tensor > 0 and devices % (fsdp * tensor) == 0:
    data = devices // (fsdp * tensor)
  if min(data, fsdp, tensor) < 1 or data * fsdp * tensor != devices:
    raise UserError(f"config.mesh: data {data} x fsdp {fsdp} x tensor {tensor} does not equal {devices} devices")
  if slices == 1:
    return jax.make_mesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3, devices=present)
  grid = hybrid_devices((data, fsdp, tensor), slices, present)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def hybrid_devices(shape: tuple[int, int, int], slices: int, present: Sequence[Any]) -> np.ndarray:
  """An object array [data, fsdp, tensor] of the devices, in which those of a slice stand together.

  Raises:
    UserError: if `slices` does not divide the data axis or is not the number of slices present.
  """
  data, fsdp, tensor = shape
  if slices < 1 or data % slices:
    raise UserError(f"config.mesh.slices is {slices}, expected a divisor of data, {data}")
  # If JAX does not tell slices apart, each process (a box of GPUs) is one.
  ids = {name: {getattr(device, name, None) for device in present} for name in ("slice_index", "process_index")}
  granule = next((name for name, values in ids.items() if len(values) == slices), None)
  if granule is None:
    slice_count, process_count = len(ids["slice_index"]), len(ids["process_index"])
    raise UserError(
      f"config.mesh.slices is {slices}, but there are {slice_count} slices of {process_count} processes in all"
    )
  return mesh_utils.create_hybrid_device_mesh(
    (data // slices, fsdp, tensor), (slices, 1, 1), devices=present, process_is_granule=granule == "process_index"
  )


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
  """A mesh with all these devices on the data axis."""
  return Mesh(np.array(devices).reshape(-1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def on_own_windows(function: Callable[..., Any], mesh: Mesh, summed: bool = False) -> Callable[..., Any]:
  """A function of (parameters, arrays [b, ...] of windows, ...) that each device computes on its own part of b.

  Unlike a program that the compiler divides, it sends nothing from one device to another, but for the sums.

  Args:
    function: its results are arrays [b, ...] too. No window may depend on another.
    mesh: its size must divide b. Parameters lie on every device.
    summed: the results are sums over windows instead, and so are those of the returned function.
  """
  windows = batch_sharding(mesh).spec

  def own_part(params: Any, *arrays: Any) -> Any:
    result = function(params, *arrays)
    return jax.lax.psum(result, AXES) if summed else result

  def on_mesh(params: Any, *arrays: Any) -> Any:
    in_specs = (PartitionSpec(), *(windows for _ in arrays))
    out_specs = PartitionSpec() if summed else windows
    # check_vma is off because attention kernels do not declare over which axes their results are replicated.
    return jax.shard_map(own_part, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)(params, *arrays)

  return on_mesh


def divided(arrays: Any, mesh: Mesh) -> Any:
  """Arrays [b, ...] of windows, placed for a function of on_own_windows; the mesh is of this process's devices."""
  # jit would place NumPy arrays itself, and sooner, but it refuses to in a run of several processes.
  return arrays if mesh.size == 1 else jax.device_put(arrays, batch_sharding(mesh))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the windows of a batch over data and fsdp."""
  return NamedSharding(mesh, PartitionSpec(WINDOW_AXES))


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  """The spec of a parameter by RULES, without the axes that do not divide its dimension.

  Raises:
    ValueError: if no rule matches.
  """
  for pattern, spec in RULES:
    if re.search(pattern, name):
      axes = [a if a and shape[i] % mesh.shape[a] == 0 else None for i, a in enumerate(spec)]
      return PartitionSpec(*axes)
  raise ValueError(f"aim/runtime/sharding.py: no sharding rule matches parameter {name!r}")


def state_shardings(state: Any, params: dict[str, Any], mesh: Mesh) -> Any:
  """Shardings of a train state: each leaf under a parameter's name (moments, EMA) is sharded like the parameter."""

  def sharding(path: tuple, leaf: Any) -> NamedSharding:
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and key.key in params]
    if names and leaf.shape == params[names[-1]].shape:
      return NamedSharding(mesh, parameter_spec(names[-1], leaf.shape, mesh))
    return NamedSharding(mesh, PartitionSpec())

  return jax.tree_util.tree_map_with_path(sharding, state)


def put_batch(values: np.ndarray, mesh: Mesh) -> jax.Array:
  """Places this process's windows [b / processes, ...] as its part of the global batch [b, ...]."""
  return jax.make_array_from_process_local_data(batch_sharding(mesh), values)


def bytes_per_device(tree: Any, shardings: Any) -> int:
  """Bytes that a tree of arrays (or their shapes) with these shardings takes on each device."""

  def size(leaf: Any, sharding: NamedSharding) -> int:
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

  return sum(jax.tree.leaves(jax.tree.map(size, tree, shardings)))


def sharding_table(params: dict[str, Any], shardings: dict[str, NamedSharding]) -> str:
  """A table as text: name, shape, spec and bytes per device of each parameter, and the total."""
  rows = [("parameter", "shape", "spec", "bytes per device")]
  for name, leaf in params.items():
    spec = ", ".join(str(axis) if axis else "-" for axis in shardings[name].spec) or "replicated"
    rows.append((name, "x".join(map(str, leaf.shape)), spec, f"{bytes_per_device(leaf, shardings[name]):,}"))
  parameters = sum(math.prod(leaf.shape) for leaf in params.values())
  rows.append(("all", f"{parameters:,}", "", f"{bytes_per_device(params, shardings):,}"))
  widths = [max(len(row[i]) for row in rows) for i in range(4)]
  line = lambda row: "  ".join(
    x.rjust(w) if i == 3 else x.ljust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True))
  )
  return "\n".join(line(row) for row in rows)
