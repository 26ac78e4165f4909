#!/usr/bin/env bash
# The paper's claims on one GPU in about twelve minutes; docs/gpu.md explains it. Every stage has a time limit and a log. One that
# fails is named at the end, and the next one starts. Started again, it skips what is done.
#   [PY=python3] [PRESET=h200|smoke] [STAGES="tests decode"] experiments/gpu.sh
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PY=${PY:-python3} PRESET=${PRESET:-h200} STAGES=${STAGES:-} STATE=runs/gpu
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 WANDB_MODE=disabled
mkdir -p "$STATE"
failed='' pid=''
trap 'kill $pid 2>/dev/null; exit 130' INT TERM
exec 9>"$STATE/lock"

stage() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 code began
  shift 2
  [ "$PRESET" = smoke ] && limit=600 # whatever else the machine does
  case " ${STAGES:-$name} " in *" $name "*) ;; *) return ;; esac
  flock 9 # another start may be at a stage in the background; two at once would spoil each other's timing
  began=$SECONDS
  if [ -e "$STATE/$name.done" ]; then
    echo "== $name: done before"
  else
    timeout -k 10 "$limit" "$@" >>"$STATE/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    wait $pid
    code=$?
    echo "== $name: code $code after $((SECONDS - began)) of $limit s"
    if [ $code = 0 ]; then touch "$STATE/$name.done"; else tail -3 "$STATE/$name.log"; failed="$failed $name"; fi
  fi
  flock -u 9
}
run() { # NAME SECONDS COMMAND [KEY=VALUE...] of experiments
  local name=$1 limit=$2 command=$3
  shift 3
  stage "$name" "$limit" "$PY" -m "experiments.$command" "$@" track=off
}
own() { run "$@" run_dir="$STATE/$1" overwrite=true; } # a run that belongs to no experiment

if [ "$PRESET" = smoke ]; then
  tests=(tests/store/test_codes.py) images=(debug=shapes) photos=(debug=shapes) quick=(debug=shapes) short=(refine.steps=5)
else
  tests=(-n 14 tests/kernels tests/store/test_decode.py tests/inr tests/models tests/pipelines/test_prefetch.py
    tests/pipelines/test_nvjpeg.py tests/pipelines/test_sharded.py tests/training/test_cuda_graph.py tests/training/test_loop.py)
  images=(dataset=cifar10 dataset.limit=2048 dataset.test_limit=4096) quick=() short=()
  photos=(dataset=image_folder dataset.root=data/houses-256 dataset.size=224 dataset.resize=crop)
  for folder in data/houses-256/*/*/; do # four times each, so that an epoch is long enough to time
    to=data/houses-256-x4/${folder#data/houses-256/}
    for copy in 1 2 3 4; do
      [ ! -d "$folder" ] || [ -d "${to%/}-$copy" ] || { mkdir -p "$(dirname "$to")" && cp -r "$folder" "${to%/}-$copy"; }
    done
  done
fi

# Nothing is timed on a kernel that fails its tests, so these come first; then what tells most.
stage tests 150 "$PY" -m pytest -q -p no:cacheprovider -c "$ROOT/pyproject.toml" --rootdir "$ROOT" \
  -W default::DeprecationWarning -W default::FutureWarning "${tests[@]/#tests/$ROOT/tests}"
own decode 60 benchmark suite=decode decode.offline=false repeats=20 "${quick[@]}"
own fit 60 benchmark suite=fit "${images[@]}" repeats=3
run accuracy 330 train -m "experiment=accuracy/$PRESET"
run speedup-32 150 benchmark -m "experiment=speedup_cifar10/$PRESET"
run speedup-224 180 benchmark -m "experiment=speedup_houses/$PRESET"
own photos 90 encode "${photos[@]}" inr=6x44 fit=photo quantize=int5 refine=qat out="$STATE/photos.inr" "${short[@]}"
own gptq 30 encode "${images[@]}" quantize=int6 quantize.rounding=gptq out="$STATE/gptq.inr"
own qat 30 encode "${images[@]}" quantize=int5 refine=qat out="$STATE/qat.inr" "${short[@]}"
stage nccl 60 "$PY" -m torch.distributed.run --standalone --nproc-per-node=1 -m experiments.train "${images[@]}" pipeline=inr \
  backbone=resnet18_w8 optimizer.epochs=1 track=off run_dir="$STATE/nccl" overwrite=true

records=${OUT:-$STATE}/records.tgz
find runs \( -name record.json -o -name config.yaml -o -name metrics.jsonl -o -path "$STATE/*.log" \) -print0 | tar czf "$records" --null -T -
echo "records and logs: $records"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
