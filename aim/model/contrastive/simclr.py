"""SimCLR (Chen et al. 2020): each view of a day must recognise the other one among the views of all other days."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from aim.model.contrastive.views import Crop


@dataclasses.dataclass(frozen=True)
class Simclr:
  """SimCLR with one crop of two views.

  Attributes:
    crops: the one crop.
    temperature: divides the similarities; 0.1 on ImageNet in the paper.
    student, teacher: indices of the crops that are encoded with a gradient, and by the teacher (none).
  """

  crops: tuple[Crop, ...]
  temperature: float
  student: tuple[int, ...] = (0,)
  teacher: tuple[int, ...] = ()

  def loss(
    self,
    student: tuple[Float[Array, "b _ e"], ...],
    prototypes: Float[Array, "k e"],
    teacher: tuple[Float[Array, "b _ e"], ...],
    teacher_prototypes: Float[Array, "k e"],
  ) -> Float[Array, ""]:
    """NT-Xent (equation 1) of unit vectors over the whole batch, with 2 (b - 1) negatives per view."""
    (views,) = student
    b = len(views)
    x = views.swapaxes(0, 1).reshape(2 * b, -1)
    similarity = x @ x.T / self.temperature
    similarity = jnp.where(jnp.eye(2 * b, dtype=bool), -jnp.inf, similarity)
    other = (jnp.arange(2 * b) + b) % (2 * b)
    return optax.softmax_cross_entropy_with_integer_labels(similarity, other).mean()
