"""The one shared default: every config key, with the published LSM-2 / AIM value or the reason for another.

Sizes are LSM-2's (24.6M parameters). All other configs change values of this one.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.name = "LSM-2"  # of the model, in tables and figures
  config.seed = 0
  config.total_steps = 50_000
  config.batch_size = 4096  # windows a step, over all hosts
  # How the same loss is computed (aim/sizes.py): "textbook", "trimmed" or "packed"; "auto": the fastest here.
  config.form = "auto"
  config.sizes = 6  # buffer sizes that the step is compiled for, at most 6: more waste less, and take longer to compile

  config.data = ml_collections.ConfigDict()
  config.data.dir = "data"  # where datasets live
  config.data.name = ""  # dataset in data.dir; empty: the simulated cohort below, built on first use
  config.data.participants = 200  # of the simulated cohort
  config.data.days = 5  # a participant
  config.data.seed = 0
  config.data.workers = 0  # loader processes; 0 reads in a thread

  config.model = ml_collections.ConfigDict()
  config.model.patch_minutes = 10
  config.model.encoder = ml_collections.ConfigDict({"width": 384, "mlp": 1536, "heads": 6, "layers": 12})
  config.model.decoder = ml_collections.ConfigDict({"width": 256, "mlp": 1024, "heads": 4, "layers": 4})
  # What a token attends to in the decoder: "all" positions (published), "observed" ones, which cost a third at this
  # size, or the "visible" tokens alone. Both are level on some real days, worse where much is missing (BUILD_NOTES.md).
  config.model.decoder.tokens = "all"
  config.model.attention = "auto"  # or a backend of aim/attention
  config.model.observed_flags = True  # per-minute observed flags into the patch embedding
  config.model.interpolation_skip = (
    False  # the decoder corrects a learned mixture of line and level; see BUILD_NOTES.md
  )
  config.model.qk_init = 0.0  # above 0: queries and keys start alike, with this SD; see BUILD_NOTES.md
  config.model.dtype = "auto"  # compute type: bfloat16 on accelerators, float32 on CPUs; or one of the two
  # Recompute activations in the backward pass: attention over 3,744 tokens needs gigabytes a window without.
  config.model.remat = True

  config.masking = ml_collections.ConfigDict()
  # A token is inherited-missing when less than this share of its minutes is observed; 1: one missing minute is enough.
  config.masking.min_observed_share = 0.0
  config.masking.random = ml_collections.ConfigDict({"weight": 1 / 3, "ratio": 0.8, "unit_minutes": 0})
  config.masking.temporal = ml_collections.ConfigDict({"weight": 1 / 3, "ratio": 0.5, "block_minutes": 0})
  config.masking.sensor = ml_collections.ConfigDict({"weight": 1 / 3, "ratio": 0.5})
  # Minute-level gaps inside visible tokens, not in the paper: what teaches holes shorter than a patch.
  config.masking.gaps = ml_collections.ConfigDict(
    {"weight": 0.0, "shortest_minutes": 10, "longest_minutes": 240, "count": 6}
  )

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.learning_rate = 5e-4
  config.optimizer.warmup_share = 0.05  # of total_steps, linear; cosine to 0 after
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.95
  config.optimizer.weight_decay = 1e-4
  config.optimizer.clip_norm = 1.0
  config.optimizer.accumulate = 1  # microbatches a step
  config.optimizer.ema = 0.0  # decay of a moving average of the parameters, used for inference; 0: none
  config.optimizer.on_nan = "stop"  # or "skip": leave the update out and go on

  config.mesh = ml_collections.ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # -1: all devices left

  config.checkpoint = ml_collections.ConfigDict({"every_steps": 1000, "keep": 3})

  config.log = ml_collections.ConfigDict()
  config.log.every_steps = 50
  config.log.tensorboard = False
  config.log.wandb = ""  # project name
  config.log.watchdog_minutes = 30.0  # no step for so long: print all stacks and exit; 0: never

  # What fills a hole inside a partly observed patch: "decode" (the model) or "interpolate" (a line in time).
  config.impute = ml_collections.ConfigDict({"short_holes": "decode"})

  config.evaluate = ml_collections.ConfigDict()
  config.evaluate.split = "eval"
  config.evaluate.batch_size = 32
  config.evaluate.seed = 0
  config.evaluate.days = 0  # at most this many days, evenly over people; 0: all
  config.evaluate.random_percent = (30, 50, 80)
  config.evaluate.interpolation_minutes = (10, 30, 60, 180)
  config.evaluate.extrapolation_minutes = (10, 30, 60, 180)
  config.evaluate.sensor_channels = (2, 6, 12)
  config.evaluate.random_patch_minutes = 10  # the cells of the random task, the same whatever the model's patch
  config.evaluate.bootstrap = 1000

  config.probe = ml_collections.ConfigDict()
  config.probe.tasks = ()  # labels of the dataset; empty: every usable one
  config.probe.pool = "mean"  # of a day's tokens, or "mean_std"; windows of a day always have the mean
  config.probe.pca = 0  # principal components of the standardised embedding; 0: no PCA
  config.probe.strengths = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)  # ridge penalties; logistic C is 1 / strength
  config.probe.balanced = True  # classes weigh the same, however rare
  config.probe.window_minutes = 10  # windows in which events are asked for, where their absence is labelled too
  config.probe.min_people = 20  # labels of fewer people are left out
  config.probe.min_people_a_class = 4  # to train on; rarer classes are left out
  config.probe.forest_trees = 200  # of the baselines on hourly features and on the mask
  config.probe.forest_features = "sqrt"  # inputs tried at a split; or a share of them
  config.probe.oracle = True  # simulated cohorts: what the days without holes and the traits would tell
  config.probe.batch_size = 64
  config.probe.bootstrap = 1000
  config.probe.seed = 0  # of the bootstrap

  # Supervised training on the tasks of config.probe.tasks, and the same from scratch (aim/finetune.py).
  config.finetune = ml_collections.ConfigDict()
  config.finetune.init = "pretrained"  # or "scratch"
  config.finetune.network = "encoder"  # or "resnet", from scratch
  config.finetune.compare = ("scratch", "resnet")  # trained on the same labels beside it; () for none
  config.finetune.label_percent = (1, 5, 10, 50, 100)  # of the people with labels
  config.finetune.seeds = (0,)  # of whose labels, the head and the order of days
  config.finetune.layers = -1  # last blocks of the pretrained encoder to train; 0: the head alone; -1: everything
  config.finetune.layer_decay = 0.75  # of the learning rate, a block down from the head
  config.finetune.learning_rate = 1e-3  # of the head
  config.finetune.scratch_learning_rate = 1e-3  # of networks from scratch, which have no layer decay
  config.finetune.warmup_share = 0.1  # of the steps, linear; cosine to 0 after
  config.finetune.b1 = 0.9
  config.finetune.b2 = 0.999
  config.finetune.weight_decay = 0.05
  config.finetune.clip_norm = 1.0
  config.finetune.class_balanced = True  # every class counts alike in the loss, however rare
  config.finetune.batch_size = 32  # days, or stretches of days
  config.finetune.steps = 300  # at most
  config.finetune.tune_every = 20  # steps between looks at the people of the tune split
  config.finetune.patience = 4  # looks without a lower loss, then training stops; the best weights are kept
  config.finetune.bootstrap = 1000
  return config
