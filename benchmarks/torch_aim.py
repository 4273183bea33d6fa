"""AIM's masked autoencoder in PyTorch, for benchmarks only: the loss of aim/model/loss.py on the same token sets.

There are two forms of the same function (with observed flags, without interpolation skip): `Textbook` is written as
masked autoencoders usually are, and `Strongest` is as fast as we can make it.
Notation: b windows, n tokens per day, p steps per patch, h heads; packed tokens of several windows are [t, width].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # a process that runs PyTorch must not import JAX
  from aim.model.lsm2 import Architecture, Tower

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values [..., heads, d] -> as queries
Precision = Literal["float32", "autocast", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Batch:
  """A TokenSet (aim/model/masking.py) as tensors. The lengths stay on the host, which allocates by them."""

  order: Tensor  # int64 [b, n]
  values: Tensor  # float32 [b, n, p]
  visible: Tensor  # bool [b, n, p]
  target: Tensor  # bool [b, n, p]
  visible_lengths: Tensor  # int64 [b], on the CPU
  target_ends: Tensor  # int64 [b], on the CPU
  target_tokens: Tensor  # bool [b, n], on the CPU: tokens with a scored step

  @classmethod
  def of(cls, arrays: Mapping[str, Any], device: str = "cpu") -> Batch:
    """The batch with the fields of a TokenSet."""
    tensors = {name: torch.tensor(np.asarray(arrays[name])) for name in list(cls.__annotations__)[:6]}
    host = {name: tensors.pop(name).long() for name in ("visible_lengths", "target_ends")}
    host["target_tokens"] = tensors["target"].any(-1)
    tensors["order"] = tensors["order"].long()
    return cls(**{name: tensor.to(device) for name, tensor in tensors.items()}, **host)


class TransformerBlock(nn.Module):
  """A transformer block with layer norms before attention and MLP."""

  def __init__(self, tower: Tower) -> None:
    super().__init__()
    self.heads = tower.heads
    self.norm1, self.norm2 = nn.LayerNorm(tower.width), nn.LayerNorm(tower.width)
    self.qkv, self.out = nn.Linear(tower.width, 3 * tower.width), nn.Linear(tower.width, tower.width)
    self.up, self.down = nn.Linear(tower.width, tower.mlp), nn.Linear(tower.mlp, tower.width)

  def forward(self, x: Tensor, attend: Attend) -> Tensor:
    """The block, with `attend` as its attention."""
    return self.finish(x, attend(*self.project(x)))

  def project(self, x: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values [..., heads, d]."""
    return self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)

  def project_selected(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `project` on packed tokens [t, width], with queries only for the tokens of these indices."""
    normed, width = self.norm1(x), x.shape[-1]
    weight, bias = self.qkv.weight, self.qkv.bias
    q = F.linear(take(normed, tokens), weight[:width], bias[:width])
    k, v = F.linear(normed, weight[width:], bias[width:]).unflatten(-1, (2, self.heads, -1)).unbind(-3)
    return q.unflatten(-1, (self.heads, -1)), k, v

  def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
    """The part of the block after the attention."""
    x = x + self.out(mixed.flatten(-2))
    return x + self.down(F.gelu(self.up(self.norm2(x))))


class Textbook(nn.Module):
  """The encoder runs on the first `kept` sorted tokens, masked ones among them, and the decoder on all positions.

  Args:
    architecture: sizes; observed_flags, no interpolation_skip.
    kept: K = N - D, the tokens that masking never drops.
    decoder_tokens: "all" positions (published), or only "observed" ones: the decoder then attends to the visible and
      the target tokens of each window, but not to tokens that the sensor lost.
  """

  binary: Tensor
  encoder_positions: Tensor
  decoder_positions: Tensor

  def __init__(self, architecture: Architecture, kept: int, decoder_tokens: Literal["all", "observed"] = "all") -> None:
    super().__init__()
    a = self.architecture = architecture
    self.kept, self.decoder_tokens = kept, decoder_tokens
    self.patch_embedding = nn.Linear(2 * a.patch, a.encoder.width)
    self.encoder = nn.ModuleList(TransformerBlock(a.encoder) for _ in range(a.encoder.layers))
    self.encoder_norm = nn.LayerNorm(a.encoder.width)
    self.bridge = nn.Linear(a.encoder.width, a.decoder.width)
    self.mask_token = nn.Parameter(torch.empty(a.decoder.width))
    self.decoder = nn.ModuleList(TransformerBlock(a.decoder) for _ in range(a.decoder.layers))
    self.decoder_norm = nn.LayerNorm(a.decoder.width)
    self.head = nn.Linear(a.decoder.width, a.patch)
    for name, parameter in self.named_parameters():
      if parameter.ndim == 2 or name == "mask_token":
        nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
      elif name.endswith("bias"):
        nn.init.zeros_(parameter)
    binary = torch.tensor(a.binary or (False,) * a.channels)
    self.any_binary = bool(binary.any())
    self.register_buffer("binary", binary.repeat_interleave(a.length))
    self.register_buffer("encoder_positions", positions(a, a.encoder.width))
    self.register_buffer("decoder_positions", positions(a, a.decoder.width))

  def forward(self, batch: Batch) -> Tensor:
    """The mean error of the scored steps."""
    lengths = batch.visible_lengths.to(batch.values.device)
    order = batch.order[:, : self.kept]
    x = self.embed(batch.values[:, : self.kept], batch.visible[:, : self.kept], order)
    visible = torch.arange(self.kept, device=x.device) < lengths[:, None]
    for block in self.encoder:
      x = block(x, functools.partial(sdpa, mask=visible[:, None, None]))
    x = self.bridge(self.encoder_norm(x))

    m = self.architecture.tokens
    mask = None
    if self.decoder_tokens == "observed":
      m = int(batch.target_ends.max())
      scored = batch.target_ends.to(x.device)
      mask = (torch.arange(m, device=x.device) < scored[:, None])[:, None, None]
    kept = min(m, self.kept)
    x = torch.where(visible[:, :kept, None], x[:, :kept], self.mask_token.to(x.dtype))
    x = torch.cat([x, self.mask_token.to(x.dtype).expand(x.shape[0], m - kept, -1)], dim=1)
    x = x + self.decoder_positions[batch.order[:, :m]].to(x.dtype)
    for block in self.decoder:
      x = block(x, functools.partial(sdpa, mask=mask))
    prediction = self.predict(x)
    return self.error(prediction, batch.values[:, :m], batch.target[:, :m], self.binary[batch.order[:, :m]])

  def embed(self, values: Tensor, shown: Tensor, token: Tensor) -> Tensor:
    """Embeds patches with their observed flags and positions."""
    dtype = self.patch_embedding.weight.dtype
    x = torch.cat([torch.where(shown, values, 0.0), shown], dim=-1).to(dtype)
    x = self.patch_embedding(x)
    return x + self.encoder_positions[token].to(x.dtype)

  def predict(self, x: Tensor) -> Tensor:
    """Predictions in float32."""
    return self.head(self.decoder_norm(x).to(self.head.weight.dtype)).float()

  def error(self, prediction: Tensor, values: Tensor, target: Tensor, binary: Tensor) -> Tensor:
    """The mean over `target` of the squared error, or cross-entropy on binary channels; 0 without any target."""
    error = (prediction - values).square()
    if self.any_binary:
      entropy = F.binary_cross_entropy_with_logits(prediction, values.clamp(0, 1), reduction="none")
      error = torch.where(binary[..., None], entropy, error)
    return torch.where(target, error, 0.0).sum() / target.sum().clamp(min=1)

  def load(self, params: Mapping[str, Any]) -> None:
    """Copies the weights of aim.model.lsm2.split; KeyError names a parameter that the two do not share."""
    ours = dict(self.named_parameters())
    with torch.no_grad():
      for name, array in params.items():
        ours.pop(torch_name(name)).copy_(torch_array(name, array))
    if ours:
      raise KeyError(f"no weights for {', '.join(ours)}")


def torch_name(name: str) -> str:
  """The name here of a parameter of aim.model.lsm2.split."""
  name = name.replace("/", ".").replace(".blocks.", ".").replace(".attention.", ".").replace(".mlp.", ".")
  name = name.replace("encoder.norm.", "encoder_norm.").replace("decoder.norm.", "decoder_norm.")
  return name.replace(".kernel", ".weight").replace(".scale", ".weight")


def torch_array(name: str, array: Any) -> Tensor:
  """A parameter or gradient of aim.model.lsm2.split in the layout of PyTorch's linear layers."""
  x = torch.tensor(np.asarray(array))
  if not name.endswith("kernel"):
    return x.flatten()
  return (x.flatten(0, 1) if name.endswith("out/kernel") else x.flatten(1)).T


def positions(a: Architecture, width: int) -> Tensor:
  """Sine-cosine positions of all tokens (aim/model/positions.py), float32 [n, width]."""
  token = torch.arange(a.tokens)
  frequency = 10000.0 ** (-torch.arange(width // 4) / (width // 4))
  angles = [p[:, None] * frequency for p in (token // a.length, token % a.length * (144 / a.length))]
  return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=-1)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
  """PyTorch's own attention on [b, n, h, d]."""
  q, k, v = (x.transpose(1, 2) for x in (q, k, v))
  return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


class Strongest(Textbook):
  """The same loss without computing what it does not need.

  - The encoder computes only visible tokens: those of all windows in one buffer ("packed"), or each window padded to
    the largest visible count ("trimmed").
  - The decoder's last layer computes queries, MLP and head only at target tokens, because nothing else is scored.

  Args:
    layout: "packed" or "trimmed".
    attention: how packed tokens attend: "sdpa", one window at a time; "blocks", as plain matrix products of one window
      and `block_scores` scores at a time, which stay in the cache; "varlen", one flash kernel for all windows (CUDA,
      half precision); "auto", the fastest: "varlen" on CUDA and "blocks" on a CPU in half precision, else "sdpa".
      Trimmed windows always go through SDPA.
    compiled: "no"; "layers", what lies between two attentions; or "all", one graph ("trimmed" or "varlen").
  """

  def __init__(
    self,
    architecture: Architecture,
    kept: int,
    decoder_tokens: Literal["all", "observed"] = "all",
    layout: Literal["packed", "trimmed"] = "packed",
    attention: Literal["auto", "sdpa", "blocks", "varlen"] = "auto",
    block_scores: int = 4_000_000,
    compiled: Literal["no", "layers", "all"] = "no",
  ) -> None:
    super().__init__(architecture, kept, decoder_tokens)
    self.layout, self.attention, self.block_scores = layout, attention, block_scores
    self._run = self.run
    if compiled == "all":
      self._run = torch.compile(self.run, dynamic=True)
    if compiled == "layers":
      for block in (*self.encoder, *self.decoder):
        for name in ("project", "project_selected", "finish"):
          setattr(block, name, torch.compile(getattr(block, name), dynamic=True))

  def forward(self, batch: Batch) -> Tensor:
    return self._run(batch.order, batch.values, batch.visible, batch.target, self.plan(batch))

  def plan(self, batch: Batch) -> Plan:
    """Plans the tokens to compute and the spans of attention; it depends only on the lengths."""
    packed, device = self.layout == "packed", batch.order.device
    (b, n), lengths, scored = batch.order.shape, batch.visible_lengths, batch.target_ends
    if self.decoder_tokens == "all":
      scored = torch.full_like(scored, n)
    padded = lambda real: real if packed else torch.full_like(real, int(real.max()))
    front = lambda count: (torch.arange(n) < count[:, None]).flatten()
    visible, encoded, decoded = front(lengths), front(padded(lengths)), front(padded(scored))
    targets = batch.target_tokens.sum(1)
    if packed:
      target = batch.target_tokens.flatten().nonzero()[:, 0]
    else:  # windows with fewer targets than others are filled up with tokens without a scored step
      columns = torch.argsort(~batch.target_tokens, dim=1, stable=True)[:, : int(targets.max())]
      target = (torch.arange(b)[:, None] * n + columns).flatten()
    in_encoder, in_decoder = encoded.cumsum(0) - 1, decoded.cumsum(0) - 1
    send = lambda rows: rows.to(device, non_blocking=True)
    return Plan(
      encoded=send(encoded.nonzero()[:, 0]),
      visible=None if packed else send(in_encoder[visible]),
      decoded=send(decoded.nonzero()[:, 0]),
      place=send(in_decoder[visible]),
      target=send(target),
      target_place=send(in_decoder[target]),
      encoder_spans=self.spans(padded(lengths), lengths, device),
      decoder_spans=self.spans(padded(scored), scored, device),
      target_spans=self.spans(padded(targets), scored, device),
    )

  def spans(self, queries: Tensor, keys: Tensor, device: torch.device) -> Spans:
    """The attention of queries[i] tokens to the first keys[i] tokens of window i."""
    if self.layout == "packed":
      half = self.bridge.weight.dtype != torch.float32 or torch.is_autocast_enabled(device.type)
      if self.attention != "varlen" and not (self.attention == "auto" and device.type == "cuda" and half):
        return Spans(queries.tolist(), keys.tolist())
      ends = lambda lengths: F.pad(lengths.cumsum(0), (1, 0)).to(device, torch.int32, non_blocking=True)
      return Spans([int(queries.max())], [int(keys.max())], ends(queries), ends(keys))
    mask = torch.arange(int(keys.max())) < keys[:, None]
    mask = None if mask.all() else mask[:, None, None].to(device, non_blocking=True)
    return Spans([len(queries)], [len(queries)], mask=mask)

  def run(self, order: Tensor, values: Tensor, shown: Tensor, target: Tensor, plan: Plan) -> Tensor:
    """The forward pass, in which all sizes come from the plan."""
    order, values, shown, target = (x.flatten(0, 1) for x in (order, values, shown, target))
    x = self.embed(values[plan.encoded], shown[plan.encoded], order[plan.encoded])
    attend = functools.partial(self.attend, plan.encoder_spans)
    for block in self.encoder:
      x = block(x, attend)
    if plan.visible is not None:
      x = take(x, plan.visible)
    x = self.bridge(self.encoder_norm(x))

    x = place(x, plan.place, self.mask_token.to(x.dtype), len(plan.decoded))
    x = x + self.decoder_positions[order[plan.decoded]].to(x.dtype)
    attend = functools.partial(self.attend, plan.decoder_spans)
    for block in self.decoder[:-1]:
      x = block(x, attend)
    last = self.decoder[-1]
    q, k, v = last.project_selected(x, plan.target_place)
    x = last.finish(take(x, plan.target_place), self.attend(plan.target_spans, q, k, v))
    rows = plan.target
    return self.error(self.predict(x), values[rows], target[rows], self.binary[order[rows]])

  def attend(self, spans: Spans, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention within each window, on packed tokens [t, h, d]."""
    if self.layout == "trimmed":
      b = spans.queries[0]
      return sdpa(*(x.unflatten(0, (b, -1)) for x in (q, k, v)), mask=spans.mask).flatten(0, 1)
    if spans.query_ends is not None:
      from torch.nn.attention.varlen import varlen_attn

      return varlen_attn(q, k, v, spans.query_ends, spans.key_ends, spans.queries[0], spans.keys[0])
    in_blocks = self.attention == "blocks" or (self.attention == "auto" and q.dtype == torch.bfloat16 and not q.is_cuda)
    one = self.blocks if in_blocks else lambda *x: sdpa(*(y[None] for y in x))[0]
    windows = zip(q.split(spans.queries), k.split(spans.keys), v.split(spans.keys), strict=True)
    return torch.cat([one(*window) for window in windows])

  def blocks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one window [n, h, d] as matrix products over blocks of queries."""
    q, k, v = (x.transpose(0, 1) for x in (q * q.shape[-1] ** -0.5, k, v))
    rows = max(64, self.block_scores // (k.shape[0] * k.shape[1]))
    out = [torch.softmax(part @ k.mT, dim=-1) @ v for part in q.split(rows, dim=1)]
    return torch.cat(out, dim=1).transpose(0, 1)


class Spans(NamedTuple):
  """Queries and keys of each window in packed buffers.

  Attributes:
    queries, keys: tokens of each window; for one kernel over all windows, the largest number of them; for padded
      windows, the number of windows.
    query_ends, key_ends: int32 [b + 1], where windows end, for the varlen kernel.
    mask: bool [b, 1, 1, n], which keys of padded windows are real; None if all are.
  """

  queries: list[int]
  keys: list[int]
  query_ends: Tensor | None = None
  key_ends: Tensor | None = None
  mask: Tensor | None = None


class Plan(NamedTuple):
  """Indices of tokens, int64.

  Attributes:
    encoded, decoded, target: tokens that encoder, decoder and its last layer compute, among all [b * n].
    visible: visible tokens among the encoded ones; None if that is all of them.
    place, target_place: visible and target tokens among the decoded ones.
    encoder_spans, decoder_spans, target_spans: the attention of each of the three.
  """

  encoded: Tensor
  visible: Tensor | None
  decoded: Tensor
  place: Tensor
  target: Tensor
  target_place: Tensor
  encoder_spans: Spans
  decoder_spans: Spans
  target_spans: Spans


def take(x: Tensor, rows: Tensor) -> Tensor:
  """The tokens of these indices, from [t, width]."""
  return x.index_select(0, rows)


def place(x: Tensor, rows: Tensor, fill: Tensor, size: int) -> Tensor:
  """[size, width] with x at the indices `rows` and `fill` [width] elsewhere."""
  return fill.expand(size, -1).index_copy(0, rows, x)


class Trainer:
  """AdamW steps on a model, at the peak of the learning rate, with the global gradient norm clipped to 1.

  Args:
    precision: "float32"; "autocast" to bfloat16; or "bfloat16" weights and activations, with float32 master weights in
      the optimiser and a float32 head.
    compiled: torch.compile the model's forward.
  """

  def __init__(
    self, model: Textbook, precision: Precision = "float32", compiled: bool = False, device: str = "cpu"
  ) -> None:
    self.model, self.precision, self.device = model.to(device), precision, device
    self.masters = self.weights = list(model.parameters())
    if precision == "bfloat16":
      self.masters = [nn.Parameter(weight.detach().clone()) for weight in self.weights]
      head = set(model.head.parameters())
      for weight in self.weights:
        if weight not in head:
          weight.data = weight.data.bfloat16()
    groups = [
      {"params": [p for p in self.masters if p.ndim == 2], "weight_decay": 1e-4},
      {"params": [p for p in self.masters if p.ndim == 1], "weight_decay": 0.0},
    ]
    self.optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.95), fused=True)
    self.loss = torch.compile(model) if compiled else model

  def step(self, batch: Batch) -> Tensor:
    """Makes one update and returns the loss before it, without waiting for the device."""
    autocast = torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "autocast")
    with autocast:
      loss = self.loss(batch)
    for weight in self.weights:
      weight.grad = None
    loss.backward()
    if self.weights is not self.masters:
      for master, weight in zip(self.masters, self.weights, strict=True):
        master.grad = None if weight.grad is None else weight.grad.float()
    nn.utils.clip_grad_norm_(self.masters, 1.0, foreach=True)
    self.optimizer.step()
    if self.weights is not self.masters:
      with torch.no_grad():
        torch._foreach_copy_(self.weights, self.masters)
    return loss.detach()
