"""The one shared default: every config key, with the published LSM-2 / AIM value or the reason for another.

Sizes are LSM-2's (24.6M parameters). All other configs change values of this one.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.name = "LSM-2"  # of the model, in tables and figures
  # What is trained: "mae", a masked autoencoder (LSM-2 and LSM-1), or "simclr", "dino", "msn" on views of days.
  config.method = "mae"
  config.seed = 0
  config.total_steps = 50_000
  config.batch_size = 4096  # windows a step, over all hosts
  # How the same loss is computed (aim/model/buffer_sizes.py): "textbook", "trimmed" or "packed"; "auto": the fastest here.
  config.form = "auto"
  config.sizes = 6  # buffer sizes that the step is compiled for, at most 6: more waste less, and take longer to compile

  config.data = ml_collections.ConfigDict()
  config.data.dir = "data"  # where datasets live
  config.data.name = ""  # dataset in data.dir; empty: the simulated cohort below, built on first use
  config.data.participants = 200  # of the simulated cohort
  config.data.days = 5  # a participant
  config.data.seed = 0
  # What fills holes before masking: "none" (AIM: they stay holes) or "linear", a line in time, as LSM-1 is trained:
  # what was filled then counts as observed, is seen and is learned from.
  config.data.impute = "none"
  # Train on days alone that miss at most this share of their values; below 1: what a pipeline does that leaves out
  # incomplete days. Normalisation stays that of all training days.
  config.data.max_missing = 1.0
  # Of those, the days of at most so many people, and of these at most so many days in all; 0: all. Chosen by keyed
  # hash, so that fewer are always among more (data_pipelines/subset.py).
  config.data.max_participants = 0
  config.data.max_days = 0
  # A day that cannot be read, of a damaged file: "stop", or "skip": another day of the split, drawn by its number,
  # stands in for it, so that the order of all others stays; counted in metrics.jsonl as corrupt_days.
  config.data.on_corrupt = "stop"
  config.data.workers = 0  # loader processes; 0 reads in a thread

  config.model = ml_collections.ConfigDict()
  config.model.patch_minutes = 10
  config.model.patch_channels = 1  # channels of a patch; 5 in LSM-1
  config.model.encoder = ml_collections.ConfigDict({"width": 384, "mlp": 1536, "heads": 6, "layers": 12})
  config.model.decoder = ml_collections.ConfigDict({"width": 256, "mlp": 1024, "heads": 4, "layers": 4})
  # What a token attends to in the decoder: "all" positions (published), "observed" ones, which cost a third at this
  # size, or the "visible" tokens alone. Both are level on some real days, worse where much is missing (BUILD_NOTES.md).
  config.model.decoder.tokens = "all"
  config.model.attention = "auto"  # or a backend of aim/model/attention
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

  # For simclr, dino and msn alone (aim/model/contrastive/views.py); what the papers set is for images.
  config.views = ml_collections.ConfigDict()
  config.views.shift_minutes = 30  # a view is shifted by up to so much
  config.views.jitter = 0.1  # SD of the noise, z-scores
  config.views.scale = 0.2  # channels are rescaled by 1 - this to 1 + this
  config.views.channel_dropout = 0.2  # chance of a channel to be removed
  config.views.cutouts = 2  # stretches of time removed
  config.views.cutout_minutes = 120  # of at most so long each
  config.views.global_share = 0.6  # of the day that a large view is a stretch of; DINO: 0.4 to 1 of an image
  config.views.local_share = 0.2  # and a small one; DINO: 0.05 to 0.4
  config.views.local = 4  # small views a day; DINO 8, MSN 10; simclr has none
  config.views.mask_ratio = 0.5  # of the tokens of msn's masked view; MSN: 0.15 to 0.7, more for larger models
  config.views.temperature = 0.1  # SimCLR, DINO and MSN
  config.views.teacher_temperature = 0.04  # DINO: 0.04, warmed up to 0.07; MSN: 0.025
  config.views.momentum = 0.996  # of the teacher, rising to 1 by a cosine; DINO and MSN
  config.views.prototypes = 1024  # MSN; DINO 65,536
  config.views.mean_entropy = 1.0  # weight of what keeps msn's prototypes in use
  # The head that is thrown away after training. SimCLR: 2 layers to 128; DINO and MSN: 3 layers of 2,048 to 256.
  config.views.projection = ml_collections.ConfigDict({"hidden": 512, "width": 128, "layers": 2})

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
  config.mesh.slices = 1  # TPU slices, or boxes of GPUs, that data goes across; fsdp and tensor stay inside one

  config.checkpoint = ml_collections.ConfigDict({"every_steps": 1000, "keep": 3})

  config.log = ml_collections.ConfigDict()
  config.log.every_steps = 50
  config.log.tensorboard = False
  config.log.wandb = ""  # project name
  config.log.parameters = False  # print where each parameter lives; WORKDIR/parameters.txt tells it anyway
  # No step finished for so many seconds: the stacks of all threads, then exit code 75; 0: never. A save that goes on
  # writing is given its time. Restoring and compiling have a limit of their own.
  config.log.watchdog_seconds = 1800.0
  config.log.watchdog_compile_seconds = 7200.0

  # What fills a hole inside a partly observed patch: "decode" (the model) or "interpolate" (a line in time).
  config.impute = ml_collections.ConfigDict({"short_holes": "decode"})

  config.evaluate = ml_collections.ConfigDict()
  config.evaluate.split = "eval"
  config.evaluate.batch_size = 32
  config.evaluate.seed = 0
  config.evaluate.days = 0  # at most this many days, evenly over people; 0: all
  # A task is asked of at most this many of them, evenly, each of others; 0: of all.
  config.evaluate.days_a_task = 0
  config.evaluate.random_percent = (30, 50, 80)
  config.evaluate.interpolation_minutes = (10, 30, 60, 180)
  config.evaluate.extrapolation_minutes = (10, 30, 60, 180)
  config.evaluate.sensor_channels = (2, 6, 12)
  config.evaluate.random_patch_minutes = 10  # the cells of the random task, the same whatever the model's patch
  config.evaluate.bootstrap = 1000
  config.evaluate.gap_minutes = (120, 360)  # more interpolation levels, for the curve of errors against gap lengths
  # A number of lost channels that the schema does not have is replaced by its share of so many; 0: left out.
  config.evaluate.sensor_of = 26
  # The public scenarios and their levels: %, %, %, minutes, minutes, beats a minute (aim/evaluation/generative/scenarios.py).
  config.evaluate.scenarios = ml_collections.ConfigDict(
    {"patches": 50, "slices": 25, "channels": 50, "sleep": 360, "workout": 60, "high_heart_rate": 160}
  )
  # Whom the model is held against; also "knn" and "mice" (scikit-learn), which take minutes.
  config.evaluate.imputers = ("mean", "nearest", "linear", "locf", "time_of_day_mean", "person_time_of_day_mean")
  config.evaluate.imputer_rows = 1000  # of training people that knn and mice are fitted on
  config.evaluate.export = (
    ""  # folder for the cells of every task, as PyPOTS has them (aim/evaluation/generative/pypots_export.py)
  )
  config.evaluate.external = ""  # NAME=FILE.npz or NAME=FOLDER, several with commas: imputations of exported cells

  config.probe = ml_collections.ConfigDict()
  config.probe.tasks = ()  # labels of the dataset; empty: every usable one
  # Of each channel's tokens the mean ("channel"), or of all tokens: "mean", "mean_std" (windows of a day: "mean").
  config.probe.pool = "channel"
  config.probe.pca = 128  # principal components of a standardised embedding of more numbers; 0: no PCA
  config.probe.strengths = (1.0, 10.0, 100.0, 1000.0, 10_000.0)  # ridge penalties; logistic C is 1 / strength
  config.probe.balanced = True  # classes weigh the same, however rare
  config.probe.window_minutes = 10  # windows in which events are asked for, where their absence is labelled too
  config.probe.min_people = 20  # labels of fewer people are left out
  config.probe.min_people_a_class = 4  # to train on; rarer classes are left out
  config.probe.baselines = True  # the mask alone, hourly features, age and sex beside the model
  config.probe.forest_trees = 100  # of the baselines on hourly features and on the mask
  config.probe.oracle = True  # simulated cohorts: what the days without holes and the traits would tell
  config.probe.batch_size = 64
  config.probe.bootstrap = 1000
  config.probe.seed = 0  # of the bootstrap

  # --mode=robustness: probes of config.probe, fitted on whole days, on days that lost something (aim/evaluation/probing/robustness.py).
  config.robustness = ml_collections.ConfigDict()
  config.robustness.sensors = 8  # settings that lose sensors; four more lose a quarter of the day
  config.robustness.bootstrap = 200
  config.robustness.seed = 0  # of the bootstrap

  # --mode=compare: every model on the same days with the same common settings (aim/studies/compare/run.py).
  config.compare = ml_collections.ConfigDict()
  config.compare.models = ()  # "FILE.py --config.key=value ...", the first is held against the others
  config.compare.common = ()  # "--config.key=value" for all of them: sizes and budget
  config.compare.modes = ("evaluate", "probe", "finetune", "robustness")
  config.compare.seeds = (0,)
  config.compare.inputs = ()  # "days.npz" or "days.npz:FOLDS"; empty: the simulated cohort of config.data
  config.compare.folds = 4  # people are cut into, each held out once; of an npz that names no number
  config.compare.run_folds = ()  # those to run; empty: all
  config.compare.jobs = 1  # commands at once
  config.compare.bootstrap = 1000

  config.report = ml_collections.ConfigDict()
  config.report.days = 3  # held-out days drawn, from the fullest to one with many holes
  config.report.embedding_days = 300  # at most, in the embedding map
  config.report.atlas_days = 500  # at most, that gaps are counted in

  # Supervised training on labels, and the same from scratch (aim/evaluation/finetuning/run.py).
  config.finetune = ml_collections.ConfigDict()
  config.finetune.tasks = ()  # labels of the dataset; empty: config.probe.tasks
  config.finetune.init = "pretrained"  # or "scratch"
  config.finetune.head = "probe"  # a pretrained encoder's head starts as its linear probe; "random"
  config.finetune.network = "encoder"  # or "resnet", from scratch
  config.finetune.resnet_impute = "none"  # holes are 0 beside observed flags; "linear": imputed first, as the paper's
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

  # --mode=scaling: held-out loss against data, size and compute (aim/studies/scaling/run.py).
  config.scaling = ml_collections.ConfigDict()
  config.scaling.models = ()  # "FILE.py --config.key=value ...": what is trained in every cell
  config.scaling.common = ()  # "--config.key=value" for all cells
  config.scaling.inputs = ()  # as config.compare.inputs; empty: the dataset of config.data
  config.scaling.folds = 4  # of an npz that names no number; people of all folds are scored as one
  config.scaling.run_folds = ()  # those to run; empty: all
  config.scaling.participants = (0,)  # training people; 0: all
  config.scaling.days = (0,)  # training days of all these people together; 0: all
  config.scaling.sizes = ("XXS", "XS", "S")  # of the ladder
  config.scaling.steps = (1000,)  # of training, each with a schedule of its own
  config.scaling.seeds = (0,)
  # "axes": participants and days change one at a time, sizes x steps together, the others as in `at`; "all": every
  # combination. Fits are made on the same cells either way.
  config.scaling.grid = "axes"
  config.scaling.at = ml_collections.ConfigDict({"participants": 0, "days": 0, "size": "XS", "steps": 1000})
  config.scaling.cells = ()  # numbers of those to run, as in cells.csv; empty: all
  config.scaling.bootstrap = 200  # refits of every curve
  # Width, MLP, heads and layers of encoder and decoder, and the learning rate, which falls with the width.
  config.scaling.ladder = ml_collections.ConfigDict(
    {
      "3XS": ((32, 128, 1, 1), (32, 128, 1, 1), 4e-3),
      "XXS": ((64, 256, 1, 2), (48, 192, 1, 1), 3e-3),
      "XXS+": ((96, 384, 2, 3), (64, 256, 2, 1), 2e-3),
      "XS": ((128, 512, 2, 4), (96, 384, 2, 1), 1.5e-3),
      "XS+": ((192, 768, 3, 6), (128, 512, 2, 2), 1e-3),
      "S": ((256, 1024, 4, 8), (192, 768, 4, 2), 7.5e-4),
    }
  )
  return config
