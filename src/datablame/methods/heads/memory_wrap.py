"""Memory Wrap: the answer from an image and what it recalls of training images.

La Rosa, Capobianco, Nardi, 2021 (section 3). arXiv:2106.01440

Formula: `z = g([f, sum_n w_n f_n]), w = sparsemax(cos(f, f_n))`.
When: each answer should name the training images that it rests on.
"""

from __future__ import annotations

from datablame.attention.head import Attention, Attentive


class memory_wrap(Attentive):
    """Features next to the weighted mean of a memory of training images; the weights say which of
    them the answer rests on.
    """

    def __init__(self, dim: int, classes: int, how: Attention = Attention()):
        super().__init__(dim, classes, how, both=True)
