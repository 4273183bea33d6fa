"""The names and layouts in docs/weights.md are enough for another program: an encoder in NumPy alone."""

import json
import math

import numpy as np
import safetensors.numpy

from aim.inference.pretrained import Pretrained
from tests import tiny
from tests.training.trained.test_exported import restored


class ByNumpy:
  """The encoder of an exported folder in float64."""

  def __init__(self, folder):
    read = lambda name: json.loads((folder / name).read_text())
    self.params = {
      name: array.astype(np.float64)
      for name, array in safetensors.numpy.load_file(folder / "model.safetensors").items()
    }
    self.config, self.schema, self.statistics = (
      read("config.json")["config"],
      read("schema.json"),
      read("statistics.json"),
    )

  def embed(self, day):
    patch = self.config["model"]["patch_minutes"] // self.schema["minutes_per_step"]
    chosen = self.config["model"]["places"]
    places = range(len(self.schema["channels"])) if chosen == "schema" else chosen
    tokens, codes = [], []
    for channel, place, values in zip(self.schema["channels"], places, day.T.astype(np.float64), strict=True):
      known = self.statistics[channel["name"]]
      if channel["kind"] != "binary":
        values = np.clip((values - known["mean"]) / known["std"], -channel["clip"], channel["clip"])
      for start in range(0, len(values), patch):
        z = values[start : start + patch]
        if not np.isnan(z).all():
          flags = ~np.isnan(z) if self.config["model"]["observed_flags"] else []
          tokens.append([*np.nan_to_num(z), *flags])
          codes.append((place, start * self.schema["minutes_per_step"] / 10))
    x = self.dense("patch_embedding", np.array(tokens))
    half = x.shape[1] // 2
    x = x + np.array([[*code(place, half), *code(time, half)] for place, time in codes])
    for i in range(self.config["model"]["encoder"]["layers"]):
      block = f"encoder/blocks/{i}"
      x = x + self.attention(f"{block}/attention", self.norm(f"{block}/norm1", x))
      hidden = self.dense(f"{block}/mlp/up", self.norm(f"{block}/norm2", x))
      x = x + self.dense(
        f"{block}/mlp/down", hidden * [[0.5 * (1 + math.erf(v / 2**0.5)) for v in row] for row in hidden]
      )
    return self.norm("encoder/norm", x).mean(0)

  def dense(self, name, x):
    kernel = self.params[f"{name}/kernel"]
    return x @ kernel.reshape(x.shape[-1], -1) + self.params[f"{name}/bias"].reshape(-1)

  def norm(self, name, x):
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return z * self.params[f"{name}/scale"] + self.params[f"{name}/bias"]

  def attention(self, name, x):
    heads = self.params[f"{name}/qkv/kernel"].shape[2]
    q, k, v = self.dense(f"{name}/qkv", x).reshape(len(x), 3, heads, -1).transpose(1, 2, 0, 3)
    weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return self.dense(f"{name}/out", mixed.transpose(1, 0, 2).reshape(len(x), -1))


def code(number, width):
  angles = number * 10000.0 ** (-np.arange(width // 2) / (width // 2))
  return [*np.sin(angles), *np.cos(angles)]


def test_an_encoder_in_numpy(tmp_path):
  model = Pretrained(restored([7, 1001, 3]))
  model.save(tmp_path / "model")
  days = tiny.arrays(people=2)["values"]
  by_numpy = ByNumpy(tmp_path / "model")
  np.testing.assert_allclose(model.embed(days), [by_numpy.embed(day) for day in days], rtol=1e-4, atol=1e-4)
