"""How weights are found: `(run, ...options) -> Classifier`, every example recorded at every epoch,
resumed where it was interrupted.
"""
