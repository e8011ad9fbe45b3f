"""Training: losses, recipe, loop, sharding, checkpoints."""
