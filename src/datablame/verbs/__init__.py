"""The library on a page: each verb finds a method, calls it, and keeps what it returns.

The command line has the same words; options are read off these signatures and docstrings. What is heavy is imported
where it is used.
"""

from datablame.verbs.auditing import audit
from datablame.verbs.explaining import agree, explain, index, locate
from datablame.verbs.judging import judge, measure, score
from datablame.verbs.making import adopt, apply, corrupt, load, teach, train
from datablame.verbs.proving import ablate, compare, prove
from datablame.verbs.recalling import evaluate, recall, remember, repeat
from datablame.verbs.showing import enrich, export, report

__all__ = [
    "ablate",
    "adopt",
    "agree",
    "apply",
    "audit",
    "compare",
    "corrupt",
    "enrich",
    "evaluate",
    "explain",
    "export",
    "index",
    "judge",
    "load",
    "locate",
    "measure",
    "prove",
    "recall",
    "remember",
    "repeat",
    "report",
    "score",
    "teach",
    "train",
]
