"""Studies: grids of runs, the papers' figures as data, and reports to read."""
