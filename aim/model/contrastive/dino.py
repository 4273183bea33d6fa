"""DINO (Caron et al. 2021): every view predicts how the teacher, a slow copy, assigns a large view to prototypes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aim.model.contrastive.views import Crop


@dataclasses.dataclass(frozen=True)
class Dino:
  """DINO with a crop of two large views, which the teacher sees, and one of small views.

  The teacher's outputs are balanced over the batch by Sinkhorn-Knopp (SwAV; DINOv2, section 4) instead of the paper's
  running centre, so that the averaged parameters are the only extra state.

  Attributes:
    crops: the large views, then the small ones.
    temperature: 0.1 in the paper.
    teacher_temperature: in the paper 0.04, warmed up to 0.07.
    teacher: indices of the crops that the teacher sees.
  """

  crops: tuple[Crop, ...]
  temperature: float
  teacher_temperature: float
  teacher: tuple[int, ...] = (0,)

  @property
  def student(self) -> tuple[int, ...]:
    """Indices of the crops that the student sees: all."""
    return tuple(range(len(self.crops)))

  def loss(
    self,
    student: tuple[Float[Array, "b _ e"], ...],
    prototypes: Float[Array, "k e"],
    teacher: tuple[Float[Array, "b _ e"], ...],
    teacher_prototypes: Float[Array, "k e"],
  ) -> Float[Array, ""]:
    """Cross-entropy (equation 2), averaged over pairs of a teacher's view and any other view of the same day."""
    views = jnp.concatenate(student, axis=1)
    logits = jax.nn.log_softmax(views @ prototypes.T / self.temperature)
    target = balanced(teacher[0] @ teacher_prototypes.T / self.teacher_temperature)
    error = -jnp.einsum("bwk,bvk->bwv", target, logits)
    # The large views come first on both sides, so a view is paired with itself on the diagonal.
    other = ~jnp.eye(target.shape[1], views.shape[1], dtype=bool)
    return jnp.where(other, error, 0.0).sum() / (len(views) * other.sum())


def balanced(logits: Float[Array, "b w k"], rounds: int = 3) -> Float[Array, "b w k"]:
  """Assignments to the k prototypes under which the batch uses all equally (Sinkhorn-Knopp; Caron et al. 2020, 3.1)."""
  log = logits
  for _ in range(rounds):
    log = jax.nn.log_softmax(log, axis=(0, 1))
    log = jax.nn.log_softmax(log, axis=-1)
  return jnp.exp(log)
