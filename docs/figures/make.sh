#!/usr/bin/env bash
# All of docs/results, in small: bash docs/figures/make.sh lenet, then convolutional, measure, draw.
# Each part resumes: studies keep their finished runs and rounds, measures what they have computed.
# runs/times.csv gets the seconds of each study; those of one that was resumed are in several lines.
set -eu
shopt -s nullglob
study() {
  local start=$SECONDS
  python -m tools.sweep --flagfile="flags/$1.cfg"
  echo "$1,$((SECONDS - start))" >> runs/times.csv
}
mkdir -p runs
case "${1:?expected lenet, convolutional, measure or draw}" in
lenet)
  for figure in fig01 fig03 fig07 fig14 fig17 stability rewinding; do study "figures/${figure}_small"; done
  study figures/fig18 # with Adam, in full
  # Data of studies of their own: docs/figures/altered_mnist.py.
  for name in headline rates deeper decay_1024 functions functions_noise noise_scale full_batch resets resets_masks \
    criteria dynamic static one_shot connected cosine_resets init_masks init_masks_moved random_masks random_labels clones \
    wide; do
    study "studies/$name"
  done
  ;;
convolutional) # data/cifar10_16 is made by tools.prepare_data --shrink=2 (docs/guides/data.md)
  for figure in fig12 fig13 appendix_c; do study "figures/${figure}_small"; done
  for name in conv4_strengths conv4_channels resnet20_16 evidence_bn; do study "studies/$name"; done
  ;;
measure) # what docs/results has beside figures
  python docs/figures/functions.py runs/fig14
  for run in runs/clones/seed=? runs/headline/seed=[0-4]_batch_size=512_reset=init; do
    python -m tools.pixels --run_dir="$run"
  done
  for run in runs/headline/seed=[0-4]_batch_size=512_reset=init; do
    python -m tools.cyclic --run_dir="$run" --at_rounds=7 --once_from=0.2
  done
  for start in init rewind:1ep rewind:5ep; do
    for run in runs/headline/seed=[0-4]_batch_size=512_reset=init \
      runs/headline/seed={0,4,6,7,11}_batch_size=60_reset=init; do
      python -m tools.instability --run_dir="$run" --at_rounds=0 --noise=one_weight --start=$start --points=11
    done
  done
  for width in twice four_times; do
    for pair in "0 1" "1 2" "2 0"; do
      set -- $pair
      python -m tools.transplant --at_rounds=5,7 \
        --run_dir="runs/wide/model=docs.figures.wide_lenets:${width}_seed=$2" --other_run="runs/wide/model=docs.figures.wide_lenets:${width}_seed=$1"
    done
  done
  python docs/figures/later.py runs
  ;;
draw) # into drawn/; what has no runs yet says so
  draw() { python -m tools.figures --out_dir=drawn --dpi=80 "$@" || true; }
  for n in 1 2 3 4 5 6 7 8 9 10 11 15 rewinding thesis; do draw --figure=$n --runs=runs/fig01_small; done
  for n in 12 21 22; do draw --figure=$n --runs=runs/fig12_small; done
  for n in 13 16 23; do draw --figure=$n --runs=runs/fig13_small; done
  for n in 14 18 19 20; do draw --figure=$n --runs=runs/fig14_small; done
  draw --figure=17 --runs=runs/fig17_small
  draw --figure=appendix_c --runs=runs/appendix_c_small
  draw --figure=stability --runs=runs/stability_small
  draw --figure=table1 --study=flags/figures/table1_small.cfg
  for n in 18 19 20; do draw --figure=$n --runs=runs/fig14 --study=flags/figures/fig$n.cfg; done
  draw --figure=thesis --study=flags/studies/rates.cfg
  mv drawn/thesis.png drawn/rates_thesis.png || true
  for n in 1 6; do draw --figure=$n --study=flags/studies/deeper.cfg; mv drawn/fig0$n.png drawn/deeper_fig0$n.png || true; done
  for n in 1 2 4 5 8; do draw --figure=$n --study=flags/studies/resnet20_16.cfg; done
  python - <<'END' # 64 colours are enough for a page
import pathlib
from PIL import Image
for path in pathlib.Path("drawn").glob("*.png"):
    Image.open(path).convert("RGB").quantize(64).save(f"docs/figures/{path.name}")
END
  ;;
esac
