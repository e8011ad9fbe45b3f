"""Training speaker models: their recipe, step, validation, and adversarial reweighting.

The loop, checkpoints, optimiser and sharding are those of every other run (`train.loop.drive`).
"""
