"""The optimiser: which parameters decay, the learning-rate schedule, and gradient clipping."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from aim.model import lsm2
from aim.model.lsm2 import Tower
from aim.training.optimizer import decay_mask, make_optimizer, schedule
from tests import tiny

OPTIMIZER = ml_collections.ConfigDict(
  {"learning_rate": 1e-2, "warmup_share": 0.1, "b1": 0.9, "b2": 0.95, "weight_decay": 0.1, "clip_norm": 1.0}
)


def test_decay_mask_covers_every_parameter():
  architecture = tiny.architecture(4, 8, 2, Tower(8, 16, 2, 1), Tower(8, 16, 2, 1), interpolation_skip=True)
  decays = decay_mask(lsm2.abstract(architecture)[1])
  assert {name.rsplit("/")[-1] for name, decayed in decays.items() if decayed} == {"kernel"}
  assert {name.rsplit("/")[-1] for name, decayed in decays.items() if not decayed} == {"bias", "scale", "mask_token"}
  with pytest.raises(ValueError, match="no weight-decay rule matches parameter 'encoder/gate'"):
    decay_mask({"encoder/gate": 0})


@pytest.mark.parametrize("total", [40, 1000])
def test_schedule_endpoints(total):
  rate = schedule(OPTIMIZER, total)
  warmup = total // 10
  assert float(rate(0)) == 0
  assert float(rate(warmup)) == pytest.approx(1e-2)
  assert float(rate(warmup // 2)) == pytest.approx(0.5e-2)
  assert float(rate(warmup + (total - warmup) // 2)) == pytest.approx(0.5e-2, rel=1e-3)
  assert float(rate(total)) == pytest.approx(0, abs=1e-8)
  rates = [float(rate(step)) for step in range(0, total + 1, total // 20)]
  assert np.argmax(rates) == 2 and (np.diff(rates[:3]) > 0).all() and (np.diff(rates[2:]) < 0).all()


def test_two_steps_are_the_shortest_run():
  rate = schedule(OPTIMIZER, 1)
  assert float(rate(0)) == 0 and np.isfinite(float(rate(1)))


def test_the_gradient_is_clipped_by_its_global_norm():
  optimizer, start = make_optimizer(OPTIMIZER, 10), {"kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
  huge = {"kernel": jnp.array([3e3, 0.0]), "bias": jnp.array([0.0, 4e3])}
  _, state = optimizer.update(huge, optimizer.init(start), start)
  (mu,) = [s.mu for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu")]
  np.testing.assert_allclose(mu["kernel"], [0.06, 0], rtol=1e-5)  # 0.1 * 3 / 5
  np.testing.assert_allclose(mu["bias"], [0, 0.08], rtol=1e-5)
