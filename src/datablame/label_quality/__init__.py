"""From held-out probabilities and scores to counts of wrong labels. It must not train."""
