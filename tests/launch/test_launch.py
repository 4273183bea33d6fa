"""The launch scripts: what they print with --dry_run, what they do with stand-ins for gcloud, kubectl and Slurm."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from tests import tiny

LAUNCH = tiny.ROOT / "launch"
SCRIPTS = ("tpu_vm.sh", "gke.sh", "slurm.sbatch")
VARIABLES = {
  "PROJECT": "project",
  "ZONE": "us-west4-a",
  "DATA": "cohort",
  "BUCKET": "bucket",
  "IMAGE": "registry.test/project/lsm2:1",
  "CLUSTER": "cluster",
  "LOCATION": "us-west4",
  "TPU_TYPE": "v5litepod-128",
  "PYTHON": "/shared/venv/bin/python",
  "POLL_SECONDS": "0",
}
AWKWARD = '--config.log.wandb=my "project"\\ of $HOME & co'
FLAGS = [
  "--config=lsm2_base",
  "--workdir=gs://bucket/runs/base",
  "--config.data.dir=gs://bucket/data",
  "--config.data.name=cohort",
  "--distributed=on",
]

# Stands in for every outside command and records it as a line of JSON; gcloud runs a worker's command like the worker.
STAND_IN = """#!{python} -IS
import json, os, pathlib, subprocess, sys
name, folder = pathlib.Path(sys.argv[0]).name, pathlib.Path(__file__).parent
stdin = sys.stdin.read() if "--filename=-" in sys.argv else ""
with (folder / "calls").open("a") as calls:
  print(json.dumps([name, *sys.argv[1:], *([stdin] if stdin else [])]), file=calls)
answers = folder / (" ".join([name, *sys.argv[1:]]).replace("/", "_")[:20])
def answer(key):
  path = folder / key
  lines = path.read_text().splitlines() if path.exists() else []
  if len(lines) > 1:
    path.write_text("\\n".join(lines[1:]))
  return lines[0] if lines else ""
if "describe" in sys.argv:
  print(answer("states"))
elif name == "docker" and "inspect" in sys.argv:
  print(answer("processes").replace(",", "\\n"))
elif name == "sudo":
  sys.exit(subprocess.run(sys.argv[1:]).returncode)
elif "ssh" in sys.argv:
  command = [a.removeprefix("--command=") for a in sys.argv if a.startswith("--command=")][0]
  sys.exit(subprocess.run(["bash", "-c", command]).returncode)
elif name == "mountpoint":
  sys.exit(1)
elif name == "srun":
  sys.exit(int(answer("codes") or 0))
"""


@pytest.fixture
def cloud(tmp_path):
  """A folder of stand-ins, which launch() puts first on PATH."""
  text = STAND_IN.format(python=sys.executable)
  for name in ("gcloud", "kubectl", "xpk", "sudo", "docker", "mountpoint", "sbatch", "srun", "scontrol"):
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)
  return tmp_path


def calls(cloud):
  path = cloud / "calls"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def launch(cloud, script, *arguments, without=(), **variables):
  """Runs a script with the stand-ins before every other program; returns (exit code, output, error output)."""
  clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
  environment = clean | VARIABLES | variables | {"PATH": f"{cloud}:{os.environ['PATH']}"}
  for name in without:
    del environment[name]
  command = ["bash", str(LAUNCH / script), *arguments]
  ended = subprocess.run(command, env=environment, cwd=cloud, capture_output=True, text=True, timeout=60)
  return ended.returncode, ended.stdout, ended.stderr


def commands(script):
  if script == "slurm.sbatch":
    return [()]
  names = re.findall(r"^#   (\w+) ", (LAUNCH / script).read_text(), re.MULTILINE)
  assert len(names) >= 8
  return [(name,) for name in names]


EVERY = [(script, command) for script in SCRIPTS for command in commands(script)]


def shellcheck():
  program = shutil.which("shellcheck")
  if program is None:
    pytest.skip("no shellcheck here; on Debian: apt-get install shellcheck")
  return program


def test_shellcheck():
  files = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch", LAUNCH / "flags.env"]
  ended = subprocess.run([shellcheck(), "-x", *files], capture_output=True, text=True, cwd=tiny.ROOT)
  assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(("script", "command"), EVERY)
def test_dry_run_prints_commands_and_runs_none(cloud, script, command):
  code, out, err = launch(cloud, script, *command, "--dry_run", "--", AWKWARD)
  assert code == 0, err
  assert calls(cloud) == []
  if command == ("render",):
    assert out.startswith("# A run on TPU slices")
    return
  printed = [shlex.split(line.removeprefix("+ ")) for line in out.splitlines() if line.startswith("+ ")]
  assert printed
  assert {words[0] for words in printed} <= {"gcloud", "kubectl", "xpk", "sbatch", "srun"}


def test_printed_commands_are_the_ones_that_run(cloud):
  """Compared line by line, for a command whose answers do not matter."""
  printed = launch(cloud, "gke.sh", "nodes", "--dry_run", SLICES="2", SPOT="yes")[1]
  assert launch(cloud, "gke.sh", "nodes", SLICES="2", SPOT="yes")[0] == 0
  assert [shlex.split(line.removeprefix("+ ")) for line in printed.splitlines()] == calls(cloud)
  assert [call[4] for call in calls(cloud)] == ["base-0", "base-1"]
  assert all("--spot" in call and "--tpu-topology=8x16" in call for call in calls(cloud))


@pytest.mark.parametrize(
  ("script", "command", "missing"),
  [
    ("tpu_vm.sh", ("up",), "PROJECT"),
    ("tpu_vm.sh", ("start",), "IMAGE"),
    ("tpu_vm.sh", ("install",), "IMAGE"),
    ("tpu_vm.sh", ("logs",), "DATA"),
    ("gke.sh", ("nodes",), "CLUSTER"),
    ("gke.sh", ("apply",), "IMAGE"),
    ("gke.sh", ("xpk",), "TPU_TYPE"),
    ("slurm.sbatch", (), "DATA"),
  ],
)
def test_a_missing_variable_is_named_in_one_line(cloud, script, command, missing):
  code, _, err = launch(cloud, script, *command, "--dry_run", without=[missing])
  assert code == 2
  assert err.strip().splitlines()[-1].startswith(f"error: {missing} is not set; {script} needs it")


@pytest.mark.parametrize(
  ("script", "arguments", "variables", "message"),
  [
    ("tpu_vm.sh", ["lgos"], {}, "error: unknown command lgos; expected up, "),
    ("tpu_vm.sh", ["logs", "--dry-run"], {}, "error: unknown flag --dry-run; the only one is --dry_run"),
    ("tpu_vm.sh", ["logs", "now"], {}, "error: unexpected argument now after logs"),
    (
      "tpu_vm.sh",
      ["create", "--dry_run"],
      {"ACCELERATOR": "v9-8"},
      "no runtime version is known for it; set RUNTIME=",
    ),
    ("gke.sh", ["render"], {"PLATFORM": "cpu"}, "error: PLATFORM=cpu: expected tpu or gpu"),
    ("gke.sh", ["render"], {"PLATFORM": "gpu", "SLICES": "2"}, "error: SLICES=2: expected 1 for GPUs"),
    ("slurm.sbatch", ["now"], {}, "error: unexpected argument now"),
    ("gke.sh", ["render"], {"SHARED": "/mnt/lsm2"}, "error: SHARED=/mnt/lsm2: expected gs://...;"),
    ("tpu_vm.sh", ["install"], {"SHARED": "/mnt/lsm2"}, "error: MOUNT is not set"),
    ("tpu_vm.sh", ["install"], {"BUCKET": ""}, "error: SHARED is not set"),
    ("slurm.sbatch", [], {"PYTHON": "", "IMAGE": ""}, "error: neither PYTHON nor IMAGE is set"),
  ],
)
def test_mistakes(cloud, script, arguments, variables, message):
  code, _, err = launch(cloud, script, *arguments, **variables)
  assert code == 2
  assert message in err
  assert calls(cloud) == []


# ----- Cloud TPU VM


def started(cloud):
  """Command lines of the containers that were started."""
  return [call[1:] for call in calls(cloud) if call[:2] == ["docker", "run"]]


def test_start_passes_flags_on_unchanged(cloud):
  code, _, err = launch(cloud, "tpu_vm.sh", "start", "--", AWKWARD)
  assert code == 0, err
  (command,) = started(cloud)
  image = command.index(VARIABLES["IMAGE"])
  assert command[image + 1 :] == [*FLAGS, AWKWARD]
  assert any(word.startswith("--env=LIBTPU_INIT_ARGS=--xla_tpu_") for word in command[:image])


def test_up_replaces_a_preempted_slice_and_restarts_a_failed_run(cloud):
  (cloud / "states").write_text("WAITING_FOR_RESOURCES\nACTIVE\nSUSPENDED\nACTIVE\nACTIVE\nACTIVE\nACTIVE\n")
  (cloud / "processes").write_text(
    "running 0,running 0\nrunning 0,exited 143\nexited 143,exited 1\nexited 0,exited 0\n"
  )
  shared = cloud / "shared"
  code, _, err = launch(cloud, "tpu_vm.sh", "up", SPOT="yes", MOUNT="true", SHARED=str(shared))
  assert code == 0, err
  assert re.findall("base: .*", err) == [
    "base: preempted, after 0 restarts",
    "base: failed, after 1 restarts",
    "base: finished, after 2 restarts",
  ]
  queue = [call[4] for call in calls(cloud) if call[:4] == ["gcloud", "compute", "tpus", "queued-resources"]]
  assert [what for what in queue if what != "describe"] == ["create", "delete", "create", "delete"]
  assert len(started(cloud)) == 3


def test_up_does_not_retry_refused_input(cloud):
  (cloud / "states").write_text("ACTIVE\n")
  (cloud / "processes").write_text("exited 2,exited 1\n")
  code, _, err = launch(cloud, "tpu_vm.sh", "up", MOUNT="true", SHARED=str(cloud / "shared"))
  assert code == 2
  assert "error: base: the program refused its input" in err
  assert len(started(cloud)) == 1


def test_up_stops_after_max_restarts(cloud):
  (cloud / "states").write_text("ACTIVE\n")
  (cloud / "processes").write_text("exited 1\n")
  code, _, err = launch(cloud, "tpu_vm.sh", "up", MOUNT="true", SHARED=str(cloud / "shared"), MAX_RESTARTS="2")
  assert code == 2
  assert "preempted or failed more than MAX_RESTARTS=2 times" in err
  assert len(started(cloud)) == 4


def test_a_failed_request_ends_the_launcher(cloud):
  (cloud / "states").write_text("WAITING_FOR_RESOURCES\nFAILED\n")
  code, _, err = launch(cloud, "tpu_vm.sh", "up")
  assert code == 2
  assert "error: base: the request for v5litepod-128 in us-west4-a is FAILED" in err
  assert started(cloud) == []


# ----- GKE

NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
# The parts of JobSet v1alpha2, batch/v1 Job and v1 Pod that our manifests use. A set lists the allowed values, a list
# has items of one kind, and ! marks a required key.
CONTAINER = {
  "name!": NAME,
  "image!": str,
  "args!": [str],
  "env": [{"name!": str, "value": str, "valueFrom": {"fieldRef!": {"fieldPath!": str}}}],
  "ports": [{"containerPort!": int}],
  "resources!": {"requests!": {re.compile(r"(google\.com/tpu|nvidia\.com/gpu)"): int}, "limits!": dict},
  "volumeMounts": [{"name!": NAME, "mountPath!": str}],
}
POD = {
  "serviceAccountName": str,
  "restartPolicy!": {"Never"},  # required by podFailurePolicy
  "terminationGracePeriodSeconds": int,
  "nodeSelector!": {re.compile(r"cloud\.google\.com/gke-[a-z-]+"): str},
  "containers!": [CONTAINER],
  "volumes": [{"name!": NAME, "emptyDir!": {"medium": {"Memory"}}}],
}
JOB = {
  "parallelism!": int,
  "completions!": int,
  "completionMode!": {"Indexed"},
  "backoffLimit!": int,
  "podFailurePolicy": {
    "rules!": [
      {
        "action!": {"FailJob", "Ignore", "Count", "FailIndex"},
        "onExitCodes": {"containerName": str, "operator!": {"In", "NotIn"}, "values!": [int]},
      }
    ]
  },
  "template!": {"spec!": POD},
}
JOBSET = {
  "apiVersion!": {"jobset.x-k8s.io/v1alpha2"},
  "kind!": {"JobSet"},
  "metadata!": {"name!": NAME, "annotations": {re.compile(r"alpha\.jobset\.sigs\.k8s\.io/exclusive-topology"): str}},
  "spec!": {
    "failurePolicy": {
      "maxRestarts": int,
      "rules": [
        {
          "name!": re.compile("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
          "action!": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"},
          "onJobFailureReasons": [{"BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"}],
        }
      ],
    },
    "network": {"enableDNSHostnames": bool, "publishNotReadyAddresses": bool},
    "replicatedJobs!": [{"name!": NAME, "replicas": int, "template!": {"spec!": JOB}}],
  },
}


def faults(value, schema, where=""):
  """Lists the places where `value` does not follow `schema`."""
  if isinstance(schema, set):
    return [] if value in schema else [f"{where}: {value!r}"]
  if isinstance(schema, re.Pattern):
    return [] if isinstance(value, str) and schema.fullmatch(value) else [f"{where}: {value!r}"]
  if isinstance(schema, type):
    return [] if type(value) is schema else [f"{where}: {value!r} is no {schema.__name__}"]
  if isinstance(schema, list):
    if not (isinstance(value, list) and value):
      return [f"{where}: {value!r} is no list of something"]
    return [fault for i, item in enumerate(value) for fault in faults(item, schema[0], f"{where}[{i}]")]
  if not isinstance(value, dict):
    return [f"{where}: {value!r} is no mapping"]
  patterns = [key for key in schema if isinstance(key, re.Pattern)]
  fields = {key.rstrip("!"): of for key, of in schema.items() if isinstance(key, str)}
  broken = [
    f"{where}.{key[:-1]} is missing"
    for key in schema
    if isinstance(key, str) and key.endswith("!") and key[:-1] not in value
  ]
  for key, item in value.items():
    inner = fields.get(key) or next((schema[pattern] for pattern in patterns if pattern.fullmatch(key)), None)
    broken += faults(item, inner, f"{where}.{key}") if inner else [f"{where}.{key} is unknown"]
  return broken


@pytest.mark.parametrize("spot", ["", "yes"])
@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_manifests(cloud, platform, spot):
  code, _, err = launch(cloud, "gke.sh", "apply", "--", AWKWARD, PLATFORM=platform, SPOT=spot)
  assert code == 0, err
  (call,) = calls(cloud)
  assert call[:3] == ["kubectl", "apply", "--filename=-"]
  jobset = yaml.safe_load(call[3])
  assert faults(jobset, JOBSET) == []
  (job,) = jobset["spec"]["replicatedJobs"]
  pods = job["template"]["spec"]
  assert pods["parallelism"] == pods["completions"]
  pod = pods["template"]["spec"]
  (container,) = pod["containers"]
  assert container["args"] == [*FLAGS, AWKWARD]
  assert container["resources"]["requests"] == container["resources"]["limits"]
  assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
  assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == bool(spot)


def test_faults_of_a_manifest_are_found(cloud):
  jobset = yaml.safe_load(launch(cloud, "gke.sh", "render")[1])
  pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
  pod["nodeselector"] = pod.pop("nodeSelector")
  pod["containers"][0]["args"] = [1]
  del pod["restartPolicy"]
  where = ".spec.replicatedJobs[0].template.spec.template.spec"
  assert sorted(faults(jobset, JOBSET)) == [
    f"{where}.containers[0].args[0]: 1 is no str",
    f"{where}.nodeSelector is missing",
    f"{where}.nodeselector is unknown",
    f"{where}.restartPolicy is missing",
  ]


def test_the_program_finds_its_processes_in_a_gpu_jobset(cloud):
  """The manifest sets the environment variables that aim/runtime/processes.py reads."""
  from aim.runtime import processes

  jobset = yaml.safe_load(launch(cloud, "gke.sh", "render", PLATFORM="gpu")[1])
  (job,) = jobset["spec"]["replicatedJobs"]
  (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
  given = {variable["name"]: variable.get("value") for variable in container["env"]}
  # Kubernetes fills these in from the pod's annotations and index.
  given |= {"JOBSET_NAME": jobset["metadata"]["name"], "REPLICATED_JOB_NAME": job["name"], "JOB_COMPLETION_INDEX": "1"}
  group = processes.find_process_group("on", None, None, None, given)
  assert (group.coordinator, group.process_count, group.process_index) == ("base-hosts-0-0.base:8476", 2, 1)
  assert {"containerPort": processes.COORDINATOR_PORT} in container["ports"]


# ----- Slurm


def test_slurm_submits_itself(cloud):
  code, _, err = launch(cloud, "slurm.sbatch", "--", AWKWARD, NODES="4", GPUS="2", PARTITION="gpus")
  assert code == 0, err
  (call,) = calls(cloud)
  assert call[0] == "sbatch"
  assert {"--nodes=4", "--ntasks-per-node=2", "--gpus-per-node=2", "--partition=gpus"} <= set(call)
  assert call[-3:] == [str(LAUNCH / "slurm.sbatch"), "--", AWKWARD]


@pytest.mark.parametrize(
  ("ended", "restarts", "again"), [(0, 0, False), (2, 0, False), (143, 0, True), (143, 50, False)]
)
def test_a_slurm_job_requeues_itself_after_sigterm(cloud, ended, restarts, again):
  (cloud / "codes").write_text(f"{ended}\n")
  spooled = shutil.copy(LAUNCH / "slurm.sbatch", cloud / "slurm_script")
  job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts), "LSM2_ROOT": str(tiny.ROOT), "IMAGE": ""}
  code, _, err = launch(cloud, spooled, "--", AWKWARD, **job)
  assert code == ended, err
  train, *rest = calls(cloud)
  on_disk = [flag.replace("gs://bucket", "/mnt/lsm2") for flag in FLAGS]
  assert train == ["srun", "--kill-on-bad-exit=1", VARIABLES["PYTHON"], "-m", "aim.main", *on_disk, AWKWARD]
  assert rest == ([["scontrol", "requeue", "7"]] if (ended, restarts) == (143, 0) else [])


# ----- flags and the page


def arrays(name):
  """The words of a bash array of launch/xla_flags.sh, as one string."""
  ended = subprocess.run(
    ["bash", "-c", f'source {LAUNCH}/xla_flags.sh; echo "${{{name}[*]}}"'], capture_output=True, text=True, check=True
  )
  return ended.stdout.strip()


def compiles(variables, code):
  """Runs `code` in a fresh process with XLA's variables; returns whether it succeeded, and its error output."""
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | variables
  ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
  return ended.returncode == 0, ended.stderr


def test_xla_knows_the_gpu_flags():
  code = "import jax; jax.devices()"
  ok, message = compiles({"XLA_FLAGS": arrays("GPU_FLAGS")}, code)
  assert ok, message
  assert not compiles({"XLA_FLAGS": "--xla_gpu_no_such_flag=true"}, code)[0]


def test_libtpu_knows_the_tpu_flags():
  pytest.importorskip("libtpu", reason="no libtpu here: pip install -e '.[tpu]'")
  code = "from jax.experimental import topologies as t; t.get_topology_desc(platform='tpu', topology_name='v5e:2x4')"
  ok, message = compiles({"LIBTPU_INIT_ARGS": arrays("TPU_FLAGS")}, code)
  assert ok, message
  assert not compiles({"LIBTPU_INIT_ARGS": "--xla_no_such_flag=true"}, code)[0]


def test_flags_in_scripts_and_page_are_flags_of_the_program():
  known = (tiny.ROOT / "aim" / "main.py").read_text()
  text = "".join(path.read_text() for path in (*LAUNCH.iterdir(), tiny.ROOT / "docs" / "launch.md"))
  for flag in set(re.findall(r"--(distributed|coordinator|num_processes|process_id|workdir|config|mode)\b", text)):
    assert f'"{flag}"' in known


def page():
  """Returns (exports so far, command) for every launch command on docs/launch.md."""
  text = (tiny.ROOT / "docs" / "launch.md").read_text()
  exports, commands_of_page = [], []
  for line in "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL)).splitlines():
    if line.startswith("export "):
      exports.append(line)
    elif "launch/tpu_vm.sh" in line or "launch/gke.sh" in line or "launch/slurm.sbatch" in line:
      commands_of_page.append(("\n".join(exports), line))
  assert len(commands_of_page) > 12
  return commands_of_page


@pytest.mark.parametrize(("exports", "command"), page())
def test_the_commands_of_the_page_run(cloud, exports, command):
  before, dashes, flags = command.partition(" -- ")
  script = f"set -euo pipefail\n{exports}\n{before} --dry_run{dashes}{flags}"
  environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
  environment["PATH"] = f"{cloud}:{os.environ['PATH']}"
  ended = subprocess.run(
    ["bash", "-c", script], env=environment, cwd=tiny.ROOT, capture_output=True, text=True, timeout=60
  )
  assert ended.returncode == 0, ended.stderr
  assert ended.stdout.startswith("+ ")
  assert calls(cloud) == []


def test_the_page_names_every_command():
  text = (tiny.ROOT / "docs" / "launch.md").read_text()
  for script, command in EVERY:
    assert f"launch/{script} {' '.join(command)}".rstrip() in text or command == ("render",)


def test_no_registry_is_named():
  """Images come from IMAGE, and packages from wherever pip is configured to look."""
  for path in LAUNCH.iterdir():
    assert not re.search(r"gcr\.io|pkg\.dev|nvcr\.io|docker\.io|index-url|https?://", path.read_text()), path
