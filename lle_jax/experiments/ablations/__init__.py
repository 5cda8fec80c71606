"""Grids of experiments for `lle ablate`."""
