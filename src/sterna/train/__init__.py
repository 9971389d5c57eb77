"""The loop, checkpoints, logging and imitation."""
