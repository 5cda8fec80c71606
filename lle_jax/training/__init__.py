"""Training: the job in one file, objectives, losses, optimiser, augmentation, sharding."""
