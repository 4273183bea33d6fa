"""Default config of the model: what aim/model/from_config.py reads, with LSM-2's published value or the reason not."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import DECAY, TEXT, Either, Range, Several, number, one_of, whole


def defaults() -> ConfigDict:
  """The keys method, form and sizes, and the groups model, masking and views."""
  config = ConfigDict()
  # What is trained: "mae", a masked autoencoder (LSM-2 and LSM-1), or "simclr", "dino" or "msn" on views of days.
  config.method = "mae"
  # How the loss is computed (aim/model/buffer_sizes.py): "textbook", "trimmed" or "packed". All three give the same
  # numbers; "auto" picks the one that was measured fastest on this hardware.
  config.form = "auto"
  config.sizes = 6  # buffer sizes to compile the step for, 1 to 6: more sizes waste less, but take longer to compile
  config.model = _model()
  config.masking = _masking()
  config.views = _views()
  return config


def _model() -> ConfigDict:
  model = ConfigDict()
  model.patch_minutes = 10
  model.patch_channels = 1  # channels per patch; 5 in LSM-1
  # The number that stands for a channel in the position code: "schema", its index among the data's channels, as
  # published; "vocabulary", its place there, so that a model of other channels knows it by the same number; or a tuple
  # of one whole number per channel, which is what "vocabulary" becomes in a checkpoint.
  model.places = "schema"
  model.encoder = ConfigDict({"width": 384, "mlp": 1536, "heads": 6, "layers": 12})
  model.decoder = ConfigDict({"width": 256, "mlp": 1024, "heads": 4, "layers": 4})
  # What a token attends to in the decoder: "all" positions (published); those of the channels that are "present" in the
  # day, which is the same unless a channel is missing all day; the "observed" ones; the visible ones as each layer has
  # "refined" them, which is level with "all" for half the work (docs/results/decoders.md); or the "visible" ones as the
  # encoder left them.
  model.decoder.tokens = "refined"
  model.attention = "auto"  # or the name of a backend of aim/model/attention
  model.observed_flags = True  # give the patch embedding the observed flag of every step; not published
  # Let the decoder correct a learned mixture of interpolation and channel level; not published.
  model.interpolation_skip = False
  # What that mixes: "line", the line and the level; "smooth", also a cubic and local means, with a correction that
  # vanishes near visible values (aim/model/interpolation_skip.py).
  model.skip_evidence = "line"
  # Where the decoder's tokens are given what the skip knows: "before" the decoder's layers, or "after" them, so that
  # one channel is learnt from another sooner (docs/results/steps.md).
  model.evidence_embedding = "before"
  # Also give that the means of so many of the person's other days, at most, the nearest (aim/model/person_context.py);
  # 0: none, as published. Each day that is read costs the reading of so many more, unless they are in memory.
  model.context_days = 0
  model.qk_init = 0.0  # above 0: queries and keys start as the same projection with this SD; 0 is published
  model.dtype = "auto"  # compute type: "float32", "bfloat16", or "auto": bfloat16 on accelerators, float32 on CPUs
  # Recompute activations in the backward pass: attention over 3,744 tokens would otherwise keep gigabytes per window.
  model.remat = True
  # "needed": only in those of the step's programs whose activations would not fit otherwise, on devices whose memory is
  # known (aim/model/activation_memory.py); "always": in all of them.
  model.remat_when = "needed"
  # Compile a tower's equal blocks once, as a loop. It changes no result and no checkpoint. Off, because compiling was
  # not found faster, and memory grows (docs/results/preflight.md).
  model.scan_layers = False
  return model


def _masking() -> ConfigDict:
  masking = ConfigDict()
  # A token is inherited-missing if less than this share of its steps is observed. 1: one missing step is enough;
  # 0: only a token without any observed step.
  masking.min_observed_share = 0.0
  masking.any_observed = ()  # names of channels of which any observed step keeps a token, whatever the share is
  # Share of the tokens that a training step drops before the encoder, visible ones too where fewer are masked; -1: as
  # many as every window masks, so that no visible one is dropped.
  masking.drop_ratio = -1.0
  masking.random = ConfigDict({"weight": 1 / 3, "ratio": 0.8, "unit_minutes": 0})  # 0: whole patches
  masking.temporal = ConfigDict({"weight": 1 / 3, "ratio": 0.5, "block_minutes": 0})  # 0: independent patches
  masking.sensor = ConfigDict({"weight": 1 / 3, "ratio": 0.5})
  # Gaps of minutes inside visible tokens, which teach the model holes shorter than a patch; not published.
  masking.gaps = ConfigDict({"weight": 0.0, "shortest_minutes": 10, "longest_minutes": 240, "count": 6})
  return masking


def _views() -> ConfigDict:
  """Settings of simclr, dino and msn (aim/model/contrastive/views.py); the papers' values are for images."""
  views = ConfigDict()
  views.shift_minutes = 30  # a view is shifted in time by at most this much
  views.jitter = 0.1  # SD of the added noise, in z-scores
  views.scale = 0.2  # channels are multiplied by a factor between 1 - scale and 1 + scale
  views.channel_dropout = 0.2  # probability that a channel is removed
  views.cutouts = 2  # stretches of time removed
  views.cutout_minutes = 120  # longest length of each
  views.global_share = 0.6  # share of the day that a large view covers; DINO: 0.4 to 1 of an image
  views.local_share = 0.2  # share of the day that a small view covers; DINO: 0.05 to 0.4
  views.local = 4  # small views per day; DINO 8, MSN 10; simclr has none
  views.mask_ratio = 0.5  # share of tokens hidden in msn's masked view; MSN: 0.15 to 0.7, more for larger models
  views.temperature = 0.1  # SimCLR, DINO and MSN
  views.teacher_temperature = 0.04  # DINO: 0.04, warmed up to 0.07; MSN: 0.025
  views.momentum = 0.996  # of the teacher, rising to 1 by a cosine; DINO and MSN
  views.prototypes = 1024  # MSN: 1,024; DINO: 65,536
  views.mean_entropy = 1.0  # weight of the term that keeps msn's prototypes in use
  # The head, discarded after training. SimCLR: 2 layers down to 128; DINO and MSN: 3 layers of 2,048 down to 256.
  views.projection = ConfigDict({"hidden": 512, "width": 128, "layers": 2})
  return views


# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {
  "method": one_of("mae", "simclr", "dino", "msn"),
  "form": one_of("auto", "textbook", "trimmed", "packed"),
  "sizes": whole(1, 6),
  "model.patch_minutes": number(0, 1440, above=True),
  "model.patch_channels": whole(1, 100_000),
  "model.places": Either(one_of("schema", "vocabulary"), Several(whole(0, 1_000_000), empty=False)),
  **{
    f"model.{tower}.{key}": whole(1, most)
    for tower in ("encoder", "decoder")
    for key, most in (("width", 100_000), ("mlp", 1_000_000), ("heads", 10_000), ("layers", 1000))
  },
  "model.decoder.tokens": one_of("all", "present", "observed", "refined", "visible"),
  "model.attention": one_of("auto", "native", "cudnn", "splash", "xla"),
  "model.remat_when": one_of("needed", "always"),
  "model.skip_evidence": one_of("line", "smooth"),
  "model.evidence_embedding": one_of("before", "after"),
  "model.context_days": whole(0, 255),
  "model.qk_init": number(0, 100),
  "model.dtype": one_of("auto", "float32", "bfloat16"),
  "masking.min_observed_share": number(0, 1),
  "masking.any_observed": Several(TEXT),
  "masking.drop_ratio": number(0, 1, below=True, instead={-1: "as many as every window masks"}),
  "masking.*.weight": number(0, 1_000_000),
  "masking.*.ratio": number(0, 1, above=True, below=True),
  "masking.random.unit_minutes": number(0, 1440),
  "masking.temporal.block_minutes": number(0, 1440),
  "masking.gaps.shortest_minutes": number(0, 1440, above=True),
  "masking.gaps.longest_minutes": number(0, 1440, above=True),
  "masking.gaps.count": whole(1, 1440),
  "views.shift_minutes": number(0, 1440),
  "views.jitter": number(0, 100),
  "views.scale": number(0, 1, below=True),
  "views.channel_dropout": number(0, 1, below=True),
  "views.cutouts": whole(0, 1440),
  "views.cutout_minutes": number(0, 1440),
  "views.global_share": number(0, 1, above=True),
  "views.local_share": number(0, 1, above=True),
  "views.local": whole(0, 1000),
  "views.mask_ratio": number(0, 1, below=True),
  "views.temperature": number(1e-4, 1000),
  "views.teacher_temperature": number(1e-4, 1000),
  "views.momentum": DECAY,
  "views.prototypes": whole(1, 10_000_000),
  "views.mean_entropy": number(0, 1000),
  "views.projection.hidden": whole(1, 1_000_000),
  "views.projection.width": whole(1, 1_000_000),
  "views.projection.layers": whole(1, 1000),
}
