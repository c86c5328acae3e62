"""The baseline of Memory Wrap: the answer from recalled training images alone.

La Rosa, Capobianco, Nardi, 2021 (section 3). arXiv:2106.01440

Formula: `z = g(sum_n w_n f_n)`.
When: it is to be seen how far training images alone answer.
"""

from __future__ import annotations

from datablame.attention.head import Attention, Attentive


class memory(Attentive):
    """The weighted mean of a memory of training images, without the image's own features."""

    def __init__(self, dim: int, classes: int, how: Attention = Attention()):
        super().__init__(dim, classes, how, both=False)
