"""Suspicion of each training example: `run -> [N]`, higher is more suspect."""
