"""The experiments that ship with lle_jax; base.py lists every key of a config."""
