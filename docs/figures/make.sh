#!/usr/bin/env bash
# All of docs/results/figures.md, in small: bash docs/figures/make.sh sweep, then bash docs/figures/make.sh draw
set -eu
case "${1:?expected sweep or draw}" in
sweep) # data/cifar10_16 is made by tools.prepare_data --shrink=2 (docs/guides/data.md)
  for study in fig01 fig03 fig07 fig12 fig13 fig14 fig17 appendix_c stability rewinding; do
    python -m tools.sweep --flagfile="flags/figures/${study}_small.cfg"
  done
  python -m tools.sweep --flagfile=flags/studies/rates.cfg # beside fig01_small
  python -m tools.sweep --flagfile=flags/studies/deeper.cfg
  python -m tools.sweep --flagfile=flags/studies/init_masks.cfg
  python -m tools.sweep --flagfile=flags/studies/init_masks_moved.cfg
  python -m tools.sweep --flagfile=flags/studies/conv4_strengths.cfg # beside fig13_small
  python -m tools.sweep --flagfile=flags/figures/fig18.cfg # LeNet in full, with Adam
  python -m tools.sweep --flagfile=flags/studies/resnet20_16.cfg
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
