"""The library on a page: each verb finds a method, calls it, and returns an object.

The command line has the same words; options are read off these signatures and docstrings. What is
heavy is imported where it is used. `memory` and `detector` are groups of their own.
"""

from datablame.verbs import detector, memory
from datablame.verbs.auditing import audit
from datablame.verbs.certifying import certify
from datablame.verbs.datasets import clean, corrupt, export, load
from datablame.verbs.encoding import encoders, fetch
from datablame.verbs.experimenting import experiment
from datablame.verbs.explaining import agree, annotators, classes, explain, index, memorization
from datablame.verbs.judging import find, judge, measure, score
from datablame.verbs.looking import look
from datablame.verbs.reporting import figures, report
from datablame.verbs.retraining import ablate, compare, retrain
from datablame.verbs.reviewing import decided, review
from datablame.verbs.training import import_dynamics, train

__all__ = [
    "ablate",
    "agree",
    "annotators",
    "audit",
    "certify",
    "classes",
    "clean",
    "compare",
    "corrupt",
    "decided",
    "detector",
    "encoders",
    "experiment",
    "explain",
    "export",
    "fetch",
    "figures",
    "find",
    "import_dynamics",
    "index",
    "judge",
    "load",
    "look",
    "measure",
    "memorization",
    "memory",
    "report",
    "retrain",
    "review",
    "score",
    "train",
]
