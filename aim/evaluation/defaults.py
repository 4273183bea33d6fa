"""Default config of the evaluations: --mode=evaluate, probe, robustness and finetune."""

from __future__ import annotations

from ml_collections import ConfigDict

from aim.common.config_ranges import DECAY, SEED, TEXT, Range, Several, number, one_of, whole

IMPUTERS = ("mean", "nearest", "linear", "locf", "time_of_day_mean", "person_time_of_day_mean", "knn", "mice")


def defaults() -> ConfigDict:
  """The groups evaluate, probe, robustness and finetune."""
  return ConfigDict({"evaluate": _evaluate(), "probe": _probe(), "robustness": _robustness(), "finetune": _finetune()})


def _evaluate() -> ConfigDict:
  """The generative tasks (aim/evaluation/generative)."""
  evaluate = ConfigDict()
  evaluate.split = "eval"
  evaluate.batch_size = 32  # days that each device computes at a time
  evaluate.seed = 0
  evaluate.days = 0  # at most this many days, evenly over people; 0: all
  # Score each task on at most this many of those days, spread evenly and different for each task; 0: on all.
  evaluate.days_a_task = 0
  evaluate.random_percent = (30, 50, 80)
  evaluate.interpolation_minutes = (10, 30, 60, 180)
  evaluate.extrapolation_minutes = (10, 30, 60, 180)
  evaluate.sensor_channels = (2, 6, 12)
  evaluate.random_patch_minutes = 10  # length of the pieces that the random task hides, whatever the model's patch
  evaluate.bootstrap = 1000
  evaluate.gap_minutes = (120, 360)  # further interpolation levels, for the curve of error against gap length
  # A sensor level that the schema has too few channels for becomes the same share of them as it is of this number;
  # 0: the level is left out.
  evaluate.sensor_of = 26
  # The public scenarios and their levels, in %, %, %, minutes, minutes and beats per minute
  # (aim/evaluation/generative/scenarios.py).
  evaluate.scenarios = ConfigDict(
    {"patches": 50, "slices": 25, "channels": 50, "sleep": 360, "workout": 60, "high_heart_rate": 160}
  )
  # Imputers that the model is compared with. "knn" and "mice" (scikit-learn) are available too, but take minutes.
  evaluate.imputers = ("mean", "nearest", "linear", "locf", "time_of_day_mean", "person_time_of_day_mean")
  evaluate.imputer_rows = 1000  # rows of training people that knn and mice are fitted on
  # Folder to which every task is exported in PyPOTS's layout (aim/evaluation/generative/pypots_export.py); empty: none.
  evaluate.export = ""
  evaluate.external = ""  # imputations of exported tasks to score: NAME=FILE.npz or NAME=FOLDER, separated by commas
  return evaluate


def _probe() -> ConfigDict:
  """Linear probes (aim/evaluation/probing)."""
  probe = ConfigDict()
  probe.tasks = ()  # labels of the dataset; empty: every usable one
  # What the tokens are averaged over: "channel", a mean per channel; "mean", one of all tokens; "mean_std", that with
  # their SD (windows of a day always use "mean").
  probe.pool = "channel"
  # Whether a model of imputed days (LSM-1) reads a patch in which nothing was observed: "seen", as it was filled in, or
  # "unseen", left out as LSM-2 leaves it out. Published, as far as the papers say: "seen".
  probe.imputed_patches = "seen"
  probe.pca = 128  # longer embeddings are standardised and reduced to this many principal components; 0: no PCA
  probe.strengths = (1.0, 10.0, 100.0, 1000.0, 10_000.0)  # ridge penalties; logistic regression's C is 1 / strength
  probe.balanced = True  # classes weigh the same, however rare
  probe.window_minutes = 10  # windows in which events are predicted, if the labels also say when there was none
  probe.min_people = 20  # labels of fewer people are left out
  probe.min_people_a_class = 4  # in training; rarer classes are left out
  probe.baselines = True  # also fit on the mask alone, on hourly features, and on age and sex
  probe.forest_trees = 100  # of the baselines on hourly features and on the mask
  probe.oracle = True  # on simulated cohorts, also fit on the days without holes and on the simulated traits
  probe.batch_size = 64  # days that are read at a time, and that each device computes at a time
  probe.bootstrap = 1000
  probe.seed = 0  # of the bootstrap
  return probe


def _robustness() -> ConfigDict:
  """The probes of config.probe, fitted on whole days and scored on days that lost sensors or hours
  (aim/evaluation/probing/robustness.py)."""
  robustness = ConfigDict()
  robustness.sensors = 8  # settings that lose sensors; four more settings lose a quarter of the day
  robustness.bootstrap = 200
  robustness.seed = 0  # of the bootstrap
  return robustness


def _finetune() -> ConfigDict:
  """Supervised training on labels, from a pretrained encoder and from scratch (aim/evaluation/finetuning)."""
  finetune = ConfigDict()
  finetune.tasks = ()  # labels of the dataset; empty: config.probe.tasks
  finetune.init = "pretrained"  # or "scratch"
  finetune.head = "probe"  # start a pretrained encoder's head as its linear probe, or "random"
  finetune.network = "encoder"  # or "resnet", from scratch
  finetune.resnet_impute = "none"  # holes are 0 beside observed flags; "linear": imputed first, as in the paper
  finetune.compare = ("scratch", "resnet")  # also train these on the same labels; () for none
  finetune.label_percent = (1, 5, 10, 50, 100)  # of the people with labels
  finetune.seeds = (0,)  # of the choice of labels, of the head and of the order of days
  finetune.layers = -1  # last encoder layers to train; 0: only the head; -1: everything
  finetune.layer_decay = 0.75  # factor on the learning rate for each layer below the head
  finetune.learning_rate = 1e-3  # of the head
  finetune.scratch_learning_rate = 1e-3  # of networks from scratch, which have no layer decay
  finetune.warmup_share = 0.1  # of the steps: linear warm-up, then a cosine to 0
  finetune.b1 = 0.9
  finetune.b2 = 0.999
  finetune.weight_decay = 0.05
  finetune.clip_norm = 1.0
  finetune.class_balanced = True  # every class counts alike in the loss, however rare
  finetune.batch_size = 32  # days, or stretches of days
  finetune.steps = 300  # at most
  finetune.tune_every = 20  # steps between evaluations on the tune split
  finetune.patience = 4  # evaluations without a lower loss before training stops; the best weights are kept
  finetune.bootstrap = 1000
  return finetune


_SPLIT_DAYS = whole(0, 1_000_000_000)
_BATCH = whole(1, 1_000_000)
_BOOTSTRAP = whole(1, 1_000_000)
_PERCENT = whole(1, 99)
_MINUTES = whole(1, 1439)

# The range of every key, checked before anything is built (aim/common/config_ranges.py).
RANGES: dict[str, Range] = {
  "evaluate.split": one_of("pretrain", "tune", "eval"),
  "evaluate.batch_size": _BATCH,
  "evaluate.seed": SEED,
  "evaluate.days": _SPLIT_DAYS,
  "evaluate.days_a_task": _SPLIT_DAYS,
  "evaluate.random_percent": Several(_PERCENT),
  "evaluate.interpolation_minutes": Several(_MINUTES),
  "evaluate.extrapolation_minutes": Several(_MINUTES),
  "evaluate.sensor_channels": Several(whole(1, 100_000)),
  "evaluate.random_patch_minutes": whole(1, 1440),
  "evaluate.bootstrap": _BOOTSTRAP,
  "evaluate.gap_minutes": Several(_MINUTES),
  "evaluate.sensor_of": whole(0, 100_000),
  "evaluate.scenarios.patches": _PERCENT,
  "evaluate.scenarios.slices": _PERCENT,
  "evaluate.scenarios.channels": _PERCENT,
  "evaluate.scenarios.sleep": _MINUTES,
  "evaluate.scenarios.workout": _MINUTES,
  "evaluate.scenarios.high_heart_rate": whole(1, 1000),
  "evaluate.imputers": Several(one_of(*IMPUTERS)),
  "evaluate.imputer_rows": whole(1, 1_000_000_000),
  "evaluate.export": TEXT,
  "evaluate.external": TEXT,
  "probe.tasks": Several(TEXT),
  "probe.pool": one_of("mean", "mean_std", "channel"),
  "probe.imputed_patches": one_of("seen", "unseen"),
  "probe.pca": whole(0, 1_000_000),
  "probe.strengths": Several(number(1e-9, 1e9), empty=False),
  "probe.window_minutes": whole(1, 1440),
  "probe.min_people": whole(1, 1_000_000_000),
  "probe.min_people_a_class": whole(1, 1_000_000_000),
  "probe.forest_trees": whole(1, 1_000_000),
  "probe.batch_size": _BATCH,
  "probe.bootstrap": _BOOTSTRAP,
  "probe.seed": SEED,
  "robustness.sensors": whole(0, 100_000),
  "robustness.bootstrap": _BOOTSTRAP,
  "robustness.seed": SEED,
  "finetune.tasks": Several(TEXT),
  "finetune.init": one_of("pretrained", "scratch"),
  "finetune.head": one_of("probe", "random"),
  "finetune.network": one_of("encoder", "resnet"),
  "finetune.resnet_impute": one_of("none", "linear"),
  "finetune.compare": Several(one_of("pretrained", "scratch", "resnet")),
  "finetune.label_percent": Several(number(0, 100, above=True), empty=False),
  "finetune.seeds": Several(SEED, empty=False),
  "finetune.layers": whole(0, 1000, instead={-1: "everything"}),
  "finetune.layer_decay": number(0, 1, above=True),
  "finetune.learning_rate": number(0, 1000, above=True),
  "finetune.scratch_learning_rate": number(0, 1000, above=True),
  "finetune.warmup_share": number(0, 1, below=True),
  "finetune.b1": DECAY,
  "finetune.b2": DECAY,
  "finetune.weight_decay": number(0, 1000),
  "finetune.clip_norm": number(1e-6, 1e9),  # a large one never clips
  "finetune.batch_size": _BATCH,
  "finetune.steps": whole(1, 100_000_000),
  "finetune.tune_every": whole(1, 100_000_000),
  "finetune.patience": whole(1, 100_000_000),
  "finetune.bootstrap": _BOOTSTRAP,
}
