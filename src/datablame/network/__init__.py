"""What turns pixels into logits: an encoder under a head.

It must not know how weights are found.
"""
