"""The training loop and what all trainers share. It must not choose a trainer."""
