"""Functions of days over many days: what comes in is checked, and divided into batches of few shapes on all devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from aim.common.config_files import ConfigError
from aim.common.progress import progress_bar
from aim.inference.day_functions import DayFunctions
from aim.model.buffer_sizes import BufferSizes
from aim.runtime import compile_options, sharding
from aim.training.checkpoint import CheckpointError
from data_pipelines.channels.zeros import without_zeros
from data_pipelines.in_memory.plain_arrays import plain_array
from data_pipelines.schema import Schema, SchemaError

# Days as callers have them; whatever numpy.asarray makes an array of numbers works, such as nested lists.
Days = Shaped[np.ndarray, "days steps channels"] | Shaped[Array, "days steps channels"] | Sequence


class DayRunner:
  """Computes functions of days of a schema, however many.

  Attributes:
    schema (Schema): of the days.
    functions (DayFunctions): those of the model, which know the tokens of a day and the buffers that hold them.
    params (dict): their parameters, {name: array}, on one device.
    mesh (Mesh): the devices, each of which computes its share of the days.
    batch_size (int): the most days that each device computes at a time.
    one_program (bool): pad every batch like the largest, so that a few hundred days cost one compilation per function;
      False at first, which computes many days faster. It changes no results.
  """

  one_program = False

  def __init__(
    self,
    schema: Schema,
    functions: DayFunctions,
    params: dict[str, Array],
    batch_size: int | np.integer,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Prepares; nothing is compiled yet.

    Args:
      schema, functions, params, batch_size: see above.
      devices: those that compute; by default all of this process.

    Raises:
      ConfigError: batch_size is not a whole number of at least 1.
    """
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
      raise ConfigError(f"batch_size is {batch_size!r}, expected a whole number of at least 1")
    self.schema, self.functions, self.params, self.batch_size = schema, functions, params, int(batch_size)
    self.mesh = sharding.data_mesh(devices or jax.local_devices())
    self._programs: dict[str, Callable[..., Any]] = {}  # compiled ones, freed with the runner

  @functools.cached_property
  def params_on_mesh(self) -> dict[str, Array]:
    """The parameters on every device of the mesh."""
    return jax.device_put(self.params, sharding.replicated(self.mesh))

  @property
  def days_at_once(self) -> int:
    """The most days that all devices together compute at a time."""
    return self.batch_size * self.mesh.size

  def days_per_batch(self, days: int) -> int:
    """The size of the batches in which so many days are computed, the last of them padded."""
    # Powers of two: few shapes to compile, whatever the number of days. Every device gets the same number of days.
    size = min(self.days_at_once, 1 << max(days - 1, 0).bit_length())
    return -(-size // self.mesh.size) * self.mesh.size

  def batch_buffers(self, days: int, visible: int, targets: int) -> BufferSizes:
    """Buffers for a batch of so many days, as DayFunctions.padded_sizes has them for any number of days."""
    return self.functions.padded_sizes(visible, targets)

  def map_days(
    self,
    name: str,
    function: Callable[..., Any],
    values: Shaped[np.ndarray, "days steps channels"],
    description: str | None = None,
    whole_day: bool = False,
    target: Bool[np.ndarray, "days steps channels"] | None = None,
    *more: Shaped[np.ndarray, "days ..."],
  ) -> Shaped[np.ndarray, "days ..."]:
    """Computes a function of every day in batches, compiled once per batch shape.

    Days are computed in the order of their observed tokens, so that a batch needs little padding, and returned in the
    order in which they came. Each device computes an equal part of every batch.

    Args:
      name: of the function; the same name always means the same function.
      function: of (parameters, values [b, steps, channels], sizes), or of (parameters, values, target, *more, sizes) if
        there is a target; pure, with one array [b, ...] as its result. `sizes` are buffers that hold the tokens.
      values: days in physical units, NaN where missing.
      description: of a progress bar; None for no bar.
      whole_day: see DayFunctions.token_counts.
      target: passed to the function.
      more: passed too.
    """
    if name not in self._programs:
      self._programs[name] = self._compiled(function)
    visible, targets = self.functions.token_counts(values, whole_day, target)
    order = np.argsort(visible, kind="stable")
    size = self.days_per_batch(len(values))
    results: np.ndarray | None = None
    with progress_bar(len(values), description or "", "day", disable=description is None) as bar:
      for start in range(0, len(values), size):
        days = order[start : start + size]
        padding = ((0, size - len(days)), (0, 0), (0, 0))
        batch = [np.pad(np.asarray(values[days], np.float32), padding, constant_values=np.nan)]
        if target is not None:
          batch.append(np.pad(target[days], padding))
        batch += [np.pad(array[days], [(0, size - len(days))] + [(0, 0)] * (array.ndim - 1)) for array in more]
        fitted = slice(None) if self.one_program else days
        sizes = self.batch_buffers(size, int(visible[fitted].max()), int(targets[fitted].max()))
        on_devices = sharding.divided(batch, self.mesh)
        result = np.asarray(self._programs[name](self.params_on_mesh, on_devices, sizes))
        results = np.empty((len(values), *result.shape[1:]), result.dtype) if results is None else results
        results[days] = result[: len(days)]
        bar.update(len(days))
    assert results is not None  # there is at least one day
    return results

  def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function of (parameters, arrays of days, sizes) that divides the days among the devices."""

    def program(params: dict[str, Array], days: list[Array], sizes: BufferSizes) -> Array:
      return sharding.on_own_windows(lambda *arrays: function(*arrays, sizes), self.mesh)(params, *days)

    placement = sharding.replicated(self.mesh), sharding.batch_sharding(self.mesh)
    options = compile_options.compiler_options()
    return jax.jit(program, static_argnums=2, in_shardings=placement, compiler_options=options)

  # Checks.

  def checked_days(self, values: Any, where: str, empty_days: bool = True) -> Shaped[np.ndarray, "days steps channels"]:
    """The days as a NumPy array of the dtype that they have, once they are known to be of this model's schema.

    Args:
      values: what was passed as days.
      where: begins the message, for example a file or a method.
      empty_days: whether days without any observed value are accepted.

    Returns:
      The days, with NaN for each 0 of the channels of config.data.zero_is_missing.

    Raises:
      SchemaError: they are not.
    """
    days = plain_array(values, where)
    steps, channels = self.schema.steps, len(self.schema.channels)
    if days.ndim != 3:
      raise SchemaError(f"{where}: values have shape {days.shape}, expected [days, {steps}, {channels}]")
    # To NumPy the bfloat16 of JAX is no floating point.
    as_floats = {"i": np.float64, "u": np.float64, "V": np.float32 if days.dtype == jnp.bfloat16 else days.dtype}
    self.schema.check(days.astype(as_floats.get(days.dtype.kind, days.dtype), copy=False), where)
    if not len(days):
      raise SchemaError(f"{where}: there are no days")
    largest = np.finfo(np.float32).max
    if days.dtype.itemsize > 4 and len(beyond := np.argwhere(np.abs(days) > largest)):
      row, step, channel = beyond[0]
      raise SchemaError(
        f"{where}: row {row} step {step} channel {self.schema.names[channel]!r} is {days[row, step, channel]:g}, "
        f"expected at most {largest:.2g}: the model computes in float32"
      )
    days = without_zeros(days, self.functions.scale.zero_is_missing)
    if not empty_days:
      self._check_observed(days, where)
    return days

  def _check_observed(self, days: Shaped[np.ndarray, "days steps channels"], where: str) -> None:
    """Raises SchemaError for a day that has nothing to embed."""
    empty = np.flatnonzero(np.isnan(days).all(axis=(1, 2)))
    if len(empty):
      raise SchemaError(f"{where}: row {empty[0]} has no observed value; a day needs at least one")
    share = self.functions.masking.min_observed_share
    if share and len(unusable := np.flatnonzero(self.functions.token_counts(days, whole_day=True)[0] == 0)):
      raise SchemaError(
        f"{where}: row {unusable[0]} has no patch of which a share of {share:g} is observed, as this model was trained "
        "to need (config.masking.min_observed_share)"
      )

  def readable_days(self, values: Days) -> Bool[np.ndarray, " days"]:
    """Finds the days that have something that the model can read, so that they have an embedding.

    Args:
      values: days in physical units, NaN where missing.

    Raises:
      SchemaError: days of another shape or dtype, infinite values, or no days.
    """
    days = self.checked_days(values, "readable_days")
    return ~np.isnan(days).all(axis=(1, 2)) & (self.functions.token_counts(days, whole_day=True)[0] > 0)

  def check_result(self, where: str, result: Float[np.ndarray, "days groups numbers"]) -> None:
    """Checks that a result is finite. A group of numbers may be NaN as a whole, but not every group of a day.

    Raises:
      CheckpointError: it is not; the message names the parameter to blame.
    """
    unknown = np.isnan(result).all(axis=2)
    damaged = (~np.isfinite(result).all(axis=2) & ~unknown).any(axis=1) | unknown.all(axis=1)
    if not damaged.any():
      return
    bad = [name for name, parameter in sorted(self.params.items()) if not jnp.isfinite(parameter).all()]
    dtype = self.functions.architecture.dtype
    reason = f"parameter {bad[0]} of the model is not finite" if bad else f"{dtype} overflowed"
    raise CheckpointError(
      f"{where}: the result for row {np.flatnonzero(damaged)[0]} is NaN or Inf, although its values are not: {reason}"
    )
