"""The loss on days of people who are not trained on, under masks that are the same for every model of a kind.

The training run follows it (aim/training/heldout_curve.py), and --mode=heldout scores a checkpoint by it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from aim.model import buffer_sizes, loss, masking, patches
from aim.model.lsm2 import Lsm2
from aim.model.masking import Masking
from aim.model.patches import Scale
from aim.model.person_context import Context


def heldout_errors(
  model: Lsm2,
  masks: Masking,
  scale: Scale,
  impute: str,
  key: Key[Array, ""],
  values: Float[Array, "b s c"],
  place: Int[Array, " b"],
  *profile: Shaped[Array, "b s c"],
) -> tuple[Float[Array, " b"], Float[Array, " b"], Int[Array, "b 3"]]:
  """Each day's sum of errors, its number of scored values and its token counts (aim/model/buffer_sizes.py).

  A day without any value has 0 scored values.

  Args:
    model: with its parameters.
    masks: what is hidden; drawn from `key` and the day's place alone.
    scale: the normalisation.
    impute: config.data.impute.
    key: of the masks.
    values: days in physical units, NaN where missing.
    place: number of each day among those scored.
    profile: mean and count of the person's other days (data_pipelines/context/profile.py), if the model reads them.
  """
  a = model.architecture
  z, observed = (patches.fold(x, a.patch_channels) for x in patches.normalised_days(scale, values, impute))
  tokens = masking.fixed_token_set(key, masks, z, observed, a.patch_values, place)
  tokens = tokens._replace(context=Context.normalised(scale, *profile) if profile else None)
  size = buffer_sizes.textbook(a.tokens, masks.dropped_count(a.channel_groups, a.length), a.decoder_tokens)
  parts = loss.predictions(model, tokens, jnp.asarray(scale.binary), size)
  error, scored = jax.vmap(loss.reconstruction_error)(*(part[:, None] for part in parts))
  return error, scored, buffer_sizes.token_counts(tokens)
