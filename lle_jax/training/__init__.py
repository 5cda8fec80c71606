"""Training: state, losses, optimiser, sharding, the jitted step, checkpoints and the loop."""
