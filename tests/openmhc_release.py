"""Release folders of OpenMHC's daily LSM-2 with random weights, and its published equations in float64, for tests."""

import collections
import contextlib
import json
import pickle
import sys
import types
import zipfile

import numpy as np
import safetensors.numpy
from scipy.special import erf

ARCH = {
  "seq_length": 1440,
  "patch_size": 10,
  "in_channels": 19,
  "embed_dim": 16,
  "depth": 2,
  "num_heads": 2,
  "decoder_embed_dim": 24,
  "decoder_depth": 1,
  "decoder_num_heads": 3,
  "mlp_ratio": 2.0,
  "mask_ratio": 0.5,
}
HEART_RATE, Z_SCORED = 5, 7
STATISTICS = {
  "means": [3.0, 2.5, 0.01, 5.0, 4.0, 75.0, 1.5] + [0.0] * 12,
  "stds": [14.0, 11.0, 0.2, 18.0, 16.0, 17.0, 2.5] + [1.0] * 12,
  "channels": list(range(7)),
  "epsilon": 1e-8,
}


def weights(seed=0, arch=ARCH):
  """Random weights under OpenMHC's names."""
  rng = np.random.default_rng(seed)
  shapes = {"patch_embed.proj.weight": (arch["embed_dim"], 10), "patch_embed.proj.bias": (arch["embed_dim"],)}
  for tower, width, depth in (
    ("encoder", arch["embed_dim"], arch["depth"]),
    ("decoder", arch["decoder_embed_dim"], arch["decoder_depth"]),
  ):
    hidden = int(width * arch["mlp_ratio"])
    for block in (f"{tower}.blocks.{i}" for i in range(depth)):
      for name, rows, columns in (
        ("attn.qkv", 3 * width, width),
        ("attn.proj", width, width),
        ("mlp.0", hidden, width),
        ("mlp.3", width, hidden),
      ):
        shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
      for name in ("norm1", "norm2"):
        shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
    shapes |= {f"{tower}.norm.weight": (width,), f"{tower}.norm.bias": (width,)}
  encoder, decoder = arch["embed_dim"], arch["decoder_embed_dim"]
  shapes |= {"encoder_to_decoder.weight": (decoder, encoder), "encoder_to_decoder.bias": (decoder,)}
  shapes |= {"mask_token": (1, 1, decoder), "decoder_pred.weight": (10, decoder), "decoder_pred.bias": (10,)}
  return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder, arrays, lightning=False, **manifest):
  """A release folder; with `lightning` as a checkpoint of PyTorch Lightning, whose names begin with "model."."""
  folder.mkdir()
  name = "model.ckpt" if lightning else "model.safetensors"
  about = {"spec_version": 2, "kind": "lsm2", "checkpoint": name, "normalization_stats": "normalization_stats.json"}
  about |= {"arch": ARCH, "provenance": {"training_run": "test"}} | manifest
  (folder / "openmhc_manifest.json").write_text(json.dumps(about))
  (folder / "normalization_stats.json").write_text(json.dumps(STATISTICS))
  if lightning:
    state = {f"model.{key}": array for key, array in arrays.items()}
    torch_save(
      folder / name, {"state_dict": state, "hyper_parameters": ARCH | {"learning_rate": 1e-4}, "global_step": 7}
    )
  else:
    safetensors.numpy.save_file(arrays, folder / name)
  return folder


class _Storage:
  def __init__(self, key, values):
    self.key, self.values = key, values


class _Tensor:
  def __init__(self, storage, shape, strides):
    self.storage, self.shape, self.strides = storage, shape, strides


def torch_save(path, content, compression=zipfile.ZIP_STORED):
  """Writes what torch.save would write of nested dicts with arrays in the place of tensors."""
  storages = []

  def tensors(value):
    if isinstance(value, dict):
      return collections.OrderedDict((key, tensors(member)) for key, member in value.items())
    if isinstance(value, np.ndarray):
      storages.append(_Storage(str(len(storages)), value))
      return _Tensor(storages[-1], value.shape, tuple(stride // value.itemsize for stride in value.strides))
    return value

  with _torch_names() as torch, zipfile.ZipFile(path, "w", compression) as archive:
    kinds = {"float32": torch.FloatStorage, "float64": torch.DoubleStorage}

    class Pickler(pickle.Pickler):
      def persistent_id(self, value):
        if isinstance(value, _Storage):
          return ("storage", kinds[value.values.dtype.name], value.key, "cpu", value.values.size)
        return None

      def reducer_override(self, value):
        if isinstance(value, _Tensor):
          parts = (value.storage, 0, value.shape, value.strides, False, collections.OrderedDict())
          return torch._utils._rebuild_tensor_v2, parts
        return NotImplemented

    with archive.open("archive/data.pkl", "w") as file:
      Pickler(file, 2).dump(tensors(content))
    for storage in storages:
      archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
    archive.writestr("archive/byteorder", "little")


@contextlib.contextmanager
def _torch_names():
  """Makes modules of PyTorch's names, for the pickler to name what is in them."""
  torch, helpers = types.ModuleType("torch"), types.ModuleType("torch._utils")
  for name in ("FloatStorage", "DoubleStorage"):
    setattr(torch, name, type(name, (), {"__module__": "torch"}))

  def _rebuild_tensor_v2():
    pass

  _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
  torch._utils, helpers._rebuild_tensor_v2 = helpers, _rebuild_tensor_v2
  modules = {"torch": torch, "torch._utils": helpers}
  before = {name: sys.modules.get(name) for name in modules}
  sys.modules.update(modules)
  try:
    yield torch
  finally:
    for name, module in before.items():
      if module is None:
        del sys.modules[name]
      else:
        sys.modules[name] = module


def days(count=2, seed=0):
  """[days, 1440, 19] with holes of hours and of minutes, heart rates of 0, and values beyond five SDs."""
  rng = np.random.default_rng(seed)
  values = np.abs(rng.normal(STATISTICS["means"], STATISTICS["stds"], (count, 1440, 19)))
  values[:, :, Z_SCORED:] = rng.random((count, 1440, 12)) < 0.2
  values[:, 1410:1430, 0] = 200
  for day in values:
    for c in range(19):
      start = rng.integers(0, 400)
      day[start : start + 1000, c] = np.nan
    day[rng.random(day.shape) < 0.01] = np.nan
  values[:, 1405:1420, HEART_RATE] = 0
  return values.astype(np.float32)


class Equations:
  """The daily LSM-2 in float64: embeddings and reconstructions."""

  def __init__(self, arrays, arch=ARCH):
    self.arrays, self.arch = {name: array.astype(np.float64) for name, array in arrays.items()}, arch

  def tokens(self, day):
    """z-scores [2736, 10] with 0 where missing, and which of the tokens are missing."""
    day = day.T.astype(np.float64)
    day[HEART_RATE, day[HEART_RATE] == 0] = np.nan
    mean, std = (np.array(STATISTICS[key])[:, None] for key in ("means", "stds"))
    z = ((day - mean) / std).reshape(19, 144, 10)
    lost = np.isnan(z)
    missing = lost.any(2)
    missing[HEART_RATE] = lost[HEART_RATE].all(1)
    return np.nan_to_num(z).reshape(-1, 10), missing.reshape(-1)

  def encode(self, day):
    z, missing = self.tokens(day)
    x = self.linear("patch_embed.proj", z) + codes(self.arch["embed_dim"])
    return self.tower("encoder", x[~missing], self.arch["depth"], self.arch["num_heads"]), missing

  def embed(self, day):
    return self.encode(day)[0].mean(0)

  def reconstruct(self, day):
    """[1440, 19]: z-scores, and probabilities in binary channels."""
    encoded, missing = self.encode(day)
    x = np.tile(self.arrays["mask_token"].reshape(-1), (19 * 144, 1))
    x[~missing] = self.linear("encoder_to_decoder", encoded)
    x = x + codes(self.arch["decoder_embed_dim"])
    x = self.tower("decoder", x, self.arch["decoder_depth"], self.arch["decoder_num_heads"])
    out = self.linear("decoder_pred", x).reshape(19, 1440).T
    out[:, Z_SCORED:] = 1 / (1 + np.exp(-out[:, Z_SCORED:]))
    return out

  def tower(self, tower, x, depth, heads):
    for block in (f"{tower}.blocks.{i}" for i in range(depth)):
      y = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x))
      q, k, v = y.reshape(len(x), 3, heads, -1).transpose(1, 2, 0, 3)
      scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
      scores = np.exp(scores - scores.max(-1, keepdims=True))
      mixed = scores / scores.sum(-1, keepdims=True) @ v
      x = x + self.linear(f"{block}.attn.proj", mixed.transpose(1, 0, 2).reshape(len(x), -1))
      y = self.linear(f"{block}.mlp.0", self.norm(f"{block}.norm2", x))
      x = x + self.linear(f"{block}.mlp.3", y * 0.5 * (1 + erf(y / np.sqrt(2))))
    return self.norm(f"{tower}.norm", x)

  def linear(self, name, x):
    return x @ self.arrays[f"{name}.weight"].T + self.arrays[f"{name}.bias"]

  def norm(self, name, x):
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return z * self.arrays[f"{name}.weight"] + self.arrays[f"{name}.bias"]


def codes(width):
  """Position codes [2736, width]: half for the channel, half for the time."""

  def code(number):
    angles = np.outer(number, 10000.0 ** (-np.arange(width // 4) / (width // 4)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

  channel, time = np.divmod(np.arange(19 * 144), 144)
  return np.concatenate([code(channel), code(time)], axis=1)
