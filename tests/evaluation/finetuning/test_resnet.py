"""The ResNet's size, and the days that it takes."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from flax import nnx

from aim.evaluation.finetuning import networks, resnet
from aim.evaluation.finetuning.heads import flatten
from aim.model import lsm2
from aim.model.from_config import architecture
from data_pipelines.lsm2_schema import LSM2_SCHEMA
from experiments import lsm2_xs


def test_resnet_has_about_the_encoder_s_parameters():
  a = architecture(lsm2_xs.get_config(), LSM2_SCHEMA)
  size = networks.encoder_size(a)
  width = resnet.width_of(26, size)
  assert resnet.parameters(26, width) == pytest.approx(size, rel=0.2)
  shapes = lsm2.abstract(a)[1]
  assert size == sum(leaf.size for name, leaf in shapes.items() if name.startswith(("patch_embedding/", "encoder/")))


@pytest.mark.parametrize(
  ("channels", "steps", "width"), [pytest.param(1, 24, 1, marks=pytest.mark.slow), (26, 1440, 2)]
)
def test_resnet_takes_any_schema(channels, steps, width):
  network = resnet.ResNet(channels, width, nnx.Rngs(0))
  z = jnp.ones((2, steps, channels))
  out = network(z, z > 0)
  assert out.shape == (2, -(-steps // 16), resnet.features(width))
  assert lsm2.merge(nnx.graphdef(network), flatten(network))(z, z > 0).shape == out.shape
