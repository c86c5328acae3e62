"""Label noise, planted for a trial: `(data, amount, seed) -> Dataset`, the truth kept."""
