"""model.scan_layers: repeating one compiled block gives the loss and gradients of blocks compiled one by one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aim.model import buffer_sizes, lsm2
from aim.model.attention.backends import BACKENDS
from aim.model.buffer_sizes import BufferSizes
from aim.model.lsm2 import Tower
from aim.model.patches import Scale
from aim.runtime import sharding
from aim.training.masked_step import MaskedStep
from data_pipelines.schema import Channel, Schema
from tests import tiny

SCHEMA = Schema(180, (Channel("rate"), Channel("sleep", kind="binary")))
STATISTICS = {"mean": [0.0, 0.5], "std": [1.0, 0.5], "min": [-5.0, 0.0], "max": [5.0, 1.0]}
STEP = MaskedStep(
  # Three layers each: the decoder repeats two blocks, and its last one is computed at the targets only.
  architecture=tiny.architecture(2, 4, 2, Tower(16, 24, 4, 3), Tower(8, 12, 2, 3)),
  masking=tiny.masking(weights=(1.0, 1.0, 1.0, 1.0), min_observed_share=1.0),
  scale=Scale.from_statistics(SCHEMA, STATISTICS),
  optimizer=optax.sgd(1.0),
  accumulate=1,
  groups=0,
  ema=0.0,
  impute="none",
)
FORMS = {"textbook": 0, "trimmed": 0, "packed": 4}
slow = lambda *case: pytest.param(*case, marks=pytest.mark.slow)
CASES = [
  slow("textbook", "all", "xla", False),
  slow("textbook", "all", "xla", True),
  slow("trimmed", "all", "xla", True),
  slow("trimmed", "observed", "xla", True),
  slow("trimmed", "visible", "xla", True),
  slow("packed", "all", "native", True),
  ("packed", "observed", "native", False),
  slow("packed", "visible", "xla", False),
]


@functools.cache
def params() -> dict[str, jax.Array]:
  rng = np.random.default_rng(0)
  shapes = lsm2.abstract(STEP.architecture)[1]
  return {name: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}


@functools.cache
def tokens():
  rng = np.random.default_rng(1)
  days = rng.normal([0, 0.5], [1, 0.5], (16, 8, 2)).astype(np.float32)
  days[rng.random(days.shape) < 0.2] = np.nan
  return jax.jit(STEP.draw)(jax.random.key(0), 0, jnp.asarray(days))[0]


def buffers(form: str, decoder_tokens: str) -> BufferSizes:
  """The sizes of a form that just hold the windows."""
  if form == "textbook":
    return buffer_sizes.textbook(8, 0, decoder_tokens)
  needed = buffer_sizes.needed(np.asarray(buffer_sizes.token_counts(tokens())), FORMS[form], 1)
  return BufferSizes(FORMS[form], *map(int, needed), 8, 8, decoder_tokens)


def step_of(form: str, decoder_tokens: str, **changes) -> MaskedStep:
  architecture = dataclasses.replace(STEP.architecture, decoder_tokens=decoder_tokens, **changes)
  return dataclasses.replace(STEP, architecture=architecture, groups=FORMS[form])


def assert_same_gradient(ours, theirs, tolerance: float = 1e-6) -> None:
  """The sum of errors, the count and every gradient, by the relative norm of the difference."""
  assert float(ours[1]) == float(theirs[1]) > 0
  assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=tolerance)
  for name, leaf in theirs[2].items():
    ours_leaf, leaf = np.asarray(ours[2][name]), np.asarray(leaf)
    assert ours_leaf.dtype == leaf.dtype == np.float32
    assert np.linalg.norm(ours_leaf - leaf) <= tolerance * np.linalg.norm(leaf), name


@pytest.mark.parametrize(("form", "decoder_tokens", "attention", "remat"), CASES)
def test_repeated_blocks_are_the_blocks_one_by_one(form, decoder_tokens, attention, remat):
  if why := BACKENDS[attention].unavailable(4, "float32"):
    pytest.skip(why)
  results = []
  for scan_layers in (True, False):
    step = step_of(form, decoder_tokens, attention=attention, remat=remat, scan_layers=scan_layers)
    gradient = jax.jit(step.gradient, static_argnums=0)
    results.append(gradient(buffers(form, decoder_tokens), params(), tokens()))
  assert_same_gradient(*results)


@pytest.mark.parametrize(
  ("shape", "form", "attention", "remat"),
  [
    slow((2, 2, 2), "trimmed", "xla", True),
    slow((2, 2, 2), "packed", "native", False),
    slow((1, 8, 1), "trimmed", "xla", True),
    slow((1, 4, 2), "textbook", "xla", False),
  ],
)
def test_repeated_blocks_on_a_mesh_are_the_blocks_on_one_device(shape, form, attention, remat):
  """Also that gradients keep the sharding of their parameters: nothing but the stack is new."""
  if why := BACKENDS[attention].unavailable(4, "float32"):
    pytest.skip(why)
  sizes = buffers(form, "all")
  alone = jax.jit(step_of(form, "all", remat=remat).gradient, static_argnums=0)
  expected = alone(sizes, params(), tokens())
  with jax.set_mesh(sharding.make_mesh(*shape)):
    mesh = jax.sharding.get_mesh()
    shardings = sharding.state_shardings(params(), params(), mesh)
    step = step_of(form, "all", attention=attention, remat=remat, scan_layers=True)
    out = (None, None, shardings)
    gradient = jax.jit(step.gradient, static_argnums=0, out_shardings=out)
    batch = jax.device_put(tokens(), sharding.batch_sharding(mesh))
    ours = gradient(sizes, jax.device_put(params(), shardings), batch)
  assert_same_gradient(ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_is_traced_once(dtype):
  """Six layers make a program hardly longer than three, whether the parameters are cast or not."""

  def length(layers: int, scan_layers: bool) -> int:
    tower = dataclasses.replace(STEP.architecture.encoder, layers=layers)
    changes = {"encoder": tower, "dtype": dtype, "remat": True, "scan_layers": scan_layers}
    step = step_of("trimmed", "all", **changes)
    shapes = lsm2.abstract(step.architecture)[1]
    lowered = jax.jit(step.gradient, static_argnums=0).lower(buffers("trimmed", "all"), shapes, tokens())
    return len(lowered.as_text().splitlines())

  unrolled, repeated = (length(6, scan) - length(3, scan) for scan in (False, True))
  assert repeated < 0.3 * unrolled
