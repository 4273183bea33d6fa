"""MSN (Assran et al. 2022): masked views predict how the teacher, a slow copy, assigns the whole view to prototypes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aim.model.contrastive.views import Crop


@dataclasses.dataclass(frozen=True)
class Msn:
  """MSN with a crop of one view for the teacher alone, one of a masked view, and one of small ("focal") views.

  Attributes:
    crops: these three, in this order.
    temperature: 0.1 in the paper.
    teacher_temperature: 0.025 in the paper; lower than temperature, which sharpens the targets.
    mean_entropy: weight of the entropy of the mean prediction, which keeps all prototypes in use; 1 in the paper.
    teacher: indices of the crops that the teacher sees.
  """

  crops: tuple[Crop, ...]
  temperature: float
  teacher_temperature: float
  mean_entropy: float
  teacher: tuple[int, ...] = (0,)

  @property
  def student(self) -> tuple[int, ...]:
    """Indices of the crops that the student sees: all but the teacher's."""
    return tuple(range(1, len(self.crops)))

  def loss(
    self,
    student: tuple[Float[Array, "b _ e"], ...],
    prototypes: Float[Array, "k e"],
    teacher: tuple[Float[Array, "b _ e"], ...],
    teacher_prototypes: Float[Array, "k e"],
  ) -> Float[Array, ""]:
    """Cross-entropy minus mean_entropy times the entropy of the mean prediction over the batch (equation 1).

    Student and teacher are compared with the same, current prototypes. No gradient passes through the targets.
    """
    views = jnp.concatenate(student, axis=1)
    logits = jax.nn.log_softmax(views @ prototypes.T / self.temperature)
    target = jax.nn.softmax(teacher[0] @ jax.lax.stop_gradient(prototypes).T / self.teacher_temperature)
    error = -(jax.lax.stop_gradient(target) * logits).sum(-1).mean()
    mean = jnp.exp(logits).mean((0, 1))
    return error + self.mean_entropy * (mean * jnp.log(mean + 1e-12)).sum()
