"""The PyTorch peers compute the same loss as our step, and the harness that times them works."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aim.model import buffer_sizes, loss, lsm2
from aim.model.lsm2 import Tower
from aim.model.masking import sorted_token_set
from benchmarks import workers

torch = pytest.importorskip("torch")

from benchmarks import torch_aim  # noqa: E402
from tests import tiny  # noqa: E402

torch.set_num_threads(1)  # tensors are tiny, and threads would wait for one another

BINARY = (False, True, False)
N, KEPT = 18, 16
FORMS = {
  "textbook": (torch_aim.Textbook, {}),
  "packed": (torch_aim.Strongest, {}),
  "packed in blocks": (torch_aim.Strongest, {"attention": "blocks", "block_scores": 20}),
  "trimmed": (torch_aim.Strongest, {"layout": "trimmed"}),
}


@pytest.fixture(scope="module")
def tokens():
  """Windows with 16, 1 and a few visible tokens, some partly shown, binary targets, and lost tokens."""
  rng = np.random.default_rng(0)
  z = rng.normal(size=(4, 24, 3)).astype(np.float32)
  z[:, :, 1] = z[:, :, 1] > 0
  observed = rng.random(z.shape) < np.array([1, 0.9, 0.2, 0.5])[:, None, None]
  hidden = rng.random((4, N, 4)) < np.array([0, 1, 0.3, 0.6])[:, None, None]
  hidden[0, 3:5] = True
  shuffle = rng.random((4, N)).astype(np.float32)
  token_set = sorted_token_set(
    tiny.masking((1, 1, 1, 1), min_observed_share=0.0),
    *map(jnp.asarray, (z, observed)),
    4,
    *map(jnp.asarray, (hidden, shuffle)),
  )
  visible, target = np.asarray(token_set.visible_lengths), np.asarray(token_set.target)
  assert visible[0] == KEPT and visible[1] == 1 and len(set(visible.tolist())) == 4
  partly_visible = np.asarray(token_set.visible).any(-1)[..., None]
  assert (np.asarray(token_set.target_ends) < N).any() and (target & partly_visible).any()
  assert target[np.asarray(token_set.order) // 6 == 1].any()
  return token_set


@pytest.fixture(scope="module", params=["all", "observed"])
def ours(request, tokens):
  """Our (decoder tokens, architecture, parameters, loss, gradients)."""
  kind = request.param
  a = tiny.architecture(3, 6, 4, Tower(8, 16, 2, 2), Tower(16, 32, 4, 2), binary=BINARY, decoder_tokens=kind)
  graph, shapes = lsm2.split(lsm2.Lsm2(a, nnx.Rngs(0)))
  rng = np.random.default_rng(1)
  params = {name: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for name, leaf in sorted(shapes.items())}

  def mean(params):
    buffers = buffer_sizes.textbook(N, N - KEPT, kind)
    total, count = loss.token_error(lsm2.merge(graph, params), tokens, jnp.asarray(BINARY), buffers)
    return total / count

  value, grads = jax.jit(jax.value_and_grad(mean))(params)
  return kind, a, params, float(value), grads


def peer(form, ours):
  kind, a, params, *_ = ours
  make, options = FORMS[form]
  theirs = make(a, KEPT, decoder_tokens=kind, **options)
  theirs.load(params)
  return theirs


@pytest.mark.parametrize("form", FORMS)
def test_same_loss_and_gradients(form, ours, tokens):
  *_, value, grads = ours
  theirs = peer(form, ours)
  their_loss = theirs(torch_aim.Batch.of(tokens._asdict()))
  their_loss.backward()
  assert their_loss.item() == pytest.approx(value, rel=1e-5)
  named = dict(theirs.named_parameters())
  assert len(named) == len(grads)
  for name, expected in grads.items():
    expected = torch_aim.torch_array(name, expected)
    difference = (named[torch_aim.torch_name(name)].grad - expected).norm()
    # The gradient of a key's bias is 0 except for rounding.
    assert difference <= 1e-4 * expected.norm() + 1e-7, name


@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
def test_a_step_moves_every_parameter(form, precision, ours, tokens):
  value = ours[3]
  trainer = torch_aim.Trainer(peer(form, ours), precision)
  before = [weight.detach().clone() for weight in trainer.masters]
  batch = torch_aim.Batch.of(tokens._asdict())
  first = trainer.step(batch).item()
  assert first == pytest.approx(value, rel=1e-5 if precision == "float32" else 3e-2)
  assert all((now != old).any() for now, old in zip(trainer.masters, before, strict=True))
  for _ in range(5):
    last = trainer.step(batch).item()
  assert last < first


def test_weights_must_cover_the_model(ours):
  params = dict(ours[2])
  del params["head/bias"]
  with pytest.raises(KeyError, match=r"no weights for head\.bias"):
    peer("textbook", (*ours[:2], params, *ours[3:]))


@pytest.mark.slow
def test_competitors_take_turns(tmp_path):
  specs = [
    {"framework": "torch", "form": "textbook", "dtype": "float32"},
    {"framework": "torch", "form": "strongest", "dtype": "bfloat16", "options": {"attention": "blocks"}},
    {"framework": "torch", "form": "strongest", "dtype": "float32", "options": {"atention": "blocks"}},
    {"framework": "jax", "form": "trimmed", "dtype": "float32", "options": {"model.decoder.tokens": "all"}},
  ]
  rows = workers.measure(specs, "tiny", batch=3, repeats=5)
  assert "atention" in rows[2]["error"] and "median_s" not in rows[2]
  for row in (rows[0], rows[1], rows[3]):
    assert row["error"] == "" and row["repeats"] == 5 and 0 < row["min_s"] <= row["median_s"] <= row["max_s"]
    assert row["loss"] == pytest.approx(rows[0]["loss"], rel=1e-2) and row["peak_mb"] > 50
  assert rows[3]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-5)
  workers.write_csv(tmp_path / "out" / "rows.csv", rows)
  with (tmp_path / "out" / "rows.csv").open() as file:
    read = list(csv.DictReader(file))
  assert [row["tokens"] for row in read] == ["36"] * 4 and read[0]["cpu"] and "torch" in read[0]["versions"]
