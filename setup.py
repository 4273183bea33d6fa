"""The one place for the project's metadata and dependencies; constraints.txt pins the versions it was tested with."""

import pathlib

from setuptools import find_packages, setup

README = pathlib.Path(__file__).parent / "README.md"

INSTALL_REQUIRES = [
  "absl-py",
  "actfast>=1.3",  # reads GENEActiv's .bin and Axivity's .cwa
  "array_record>=0.8.1",  # tfds writes it, grain reads it
  "etils[epath]",  # the paths that Orbax takes, local or gs://
  "flax>=0.12.8",
  "fsspec",  # datasets, workdirs and files in object stores; etils, which Orbax uses, reads gs:// through it
  "garmin-fit-sdk",  # Garmin's own decoder of FIT files
  "grain>=0.2.18",
  "importlib_resources",  # tensorflow-datasets imports it but declares it for old Pythons only
  "jax>=0.10.2",
  "jaxtyping",
  "jinja2",  # the report's page: escapes whatever comes from data
  "lxml>=5",  # streams Apple's export.xml
  "matplotlib",
  "ml-collections>=1.1.0",
  "numpy>=2.0",
  "optax>=0.2.8",
  # Its v1 interface is imported from orbax.checkpoint.experimental, so a new minor version may move it.
  "orbax-checkpoint>=0.12.8,<0.13",
  "pandas>=2.2",  # reads SAS transport files (NHANES)
  "pyarrow",
  "pyyaml",  # recipes, the vocabulary of channels and facts for model cards, which people edit
  "safetensors>=0.4",  # exported models, for readers without this package
  "scikit-learn>=1.6",  # probes and baselines
  "scipy",
  "tensorflow-datasets>=4.9.10",
  "tqdm",
  "tzdata",  # time zones where the system has none
]

EXTRAS_REQUIRE = {
  "tpu": ["jax[tpu]"],
  "cuda": ["jax[cuda13]"],
  "beam": ["apache-beam"],
  "gcs": ["gcsfs"],  # gs://
  "s3": ["s3fs"],  # s3://
  "hub": ["huggingface_hub>=1.0"],  # hf://owner/name
  "serve": ["orjson", "starlette", "uvicorn"],  # python -m aim.serve
  "stablehlo": ["flatbuffers"],  # --mode=export --format=stablehlo: the format of jax.export's files
  "tensorboard": ["tensorboardX"],
  "wandb": ["wandb"],
  "pypots": ["pypots"],  # SAITS and BRITS on our tasks (benchmarks/pypots_imputers.py)
  "bench": ["torch==2.13.0"],  # benchmarks only: PyTorch is what we are timed against
  "dev": [
    "beartype",
    "build",
    "flatbuffers",  # tests: functions in StableHLO
    "gcp-storage-emulator",  # tests: what stands for gs:// on this machine
    "gcsfs",
    "huggingface_hub>=1.0",  # tests: hf:// against a hub on this machine
    "hypothesis",
    "ipykernel",  # tests: runs the notebook
    "import-linter",  # the arrows between rooms (pyproject.toml)
    "mkdocs-material",  # the docs site
    "mkdocstrings[python]",  # its API pages, from docstrings
    "mypy",
    "nbclient",  # tests: executes the notebook
    "nbformat",
    "orjson",  # tests: the service, as starlette and uvicorn
    "packaging",
    "pre-commit",
    "pytest",
    "pytest-xdist",
    "ruff",
    "setuptools>=77",  # tests build the distributions without a network
    "starlette",
    "tensorboard",  # tests: reads back what tensorboardX wrote
    "tensorboardX",
    "uvicorn",
    "xarray",  # tests: from_frame
  ],
}

setup(
  name="lsm2-aim",  # the index has another project named `aim`; the import name is still aim
  version="0.1.0",
  description="LSM-2 with Adaptive and Inherited Masking: learning from incomplete wearable days, in JAX and Flax",
  long_description=README.read_text(encoding="utf-8") if README.exists() else "",
  long_description_content_type="text/markdown",
  author="The lsm2-aim authors",
  license_expression="Apache-2.0",
  license_files=["LICENSE"],
  python_requires=">=3.11",
  # launch/ is used from the clone: shell scripts, no library. experiments is installed, so that --config=lsm2_tiny and
  # `from experiments import default` work from any folder.
  packages=find_packages(include=["aim", "aim.*", "data_pipelines", "data_pipelines.*", "experiments"]),
  package_data={"": ["*"], "aim.weights": ["*/*"]},  # the shipped models' folders are no packages
  install_requires=INSTALL_REQUIRES,
  extras_require=EXTRAS_REQUIRE,
)
