"""From suspicion to what should be done: `(run, scores) -> Verdict`."""
