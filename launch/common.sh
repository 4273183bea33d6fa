# shellcheck shell=bash disable=SC2034  # ROOT, COMMAND and EXTRA are read by the scripts that source this
# Functions that the launch scripts share; sourced by them.
set -euo pipefail
exec 3>&2 # commands are printed here

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRY_RUN=""

die() {
  echo "error: $*" >&2
  exit 2
}

# need NAME...: ends the script with one line that names the first variable that has no value.
need() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || die "$name is not set; $(basename "$0") needs it, as in: $name=... $0"
  done
}

# quoted WORD...: prints the words as one line that a shell can read back.
quoted() {
  local word line=()
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@,%+-]+$ ]]; then line+=("$word"); else line+=("${word@Q}"); fi
  done
  echo "${line[*]}"
}

# run WORD...: prints the command, and runs it unless --dry_run.
run() {
  echo "+ $(quoted "$@")" >&3
  [[ -n $DRY_RUN ]] || "$@"
}

# ask STAND_IN WORD...: prints what a command prints; with --dry_run prints the command and takes STAND_IN as its answer.
ask() {
  local stand_in=$1
  shift
  if [[ -z $DRY_RUN ]]; then
    "$@"
  else
    run "$@"
    echo "  # supposing: $stand_in" >&3
    echo "$stand_in"
  fi
}

# parse WORD...: sets COMMAND, DRY_RUN and EXTRA (the flags after `--`).
parse() {
  COMMAND="" EXTRA=()
  while (($#)); do
    case $1 in
      --dry_run)
        DRY_RUN=yes
        exec 3>&1 # the commands are the output
        ;;
      --)
        shift
        EXTRA=("$@")
        return
        ;;
      -*) die "unknown flag $1; the only one is --dry_run, and flags of aim.main come after --" ;;
      *)
        [[ -z $COMMAND ]] || die "unexpected argument $1 after $COMMAND"
        COMMAND=$1
        ;;
    esac
    shift
  done
}

# usage FILE: prints the comment at the top of a script.
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$1"
}
