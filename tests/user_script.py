"""What a user's editor and type checker see of the package, from outside: checked by pyright,
never run.
"""

from typing import assert_type

import datablame as db

run = db.audit("photos/")
if isinstance(run, db.Run):
    assert_type(run.card, str)
trained = db.train("digits", recipe=db.Recipe(lr=0.1))
assert_type(trained, db.Run)
scores = db.score(trained, "aum", "knn")
assert_type(scores, db.Scores)
verdict = db.judge(trained, scores)
assert_type(verdict, db.Verdict)
assert_type(verdict.apply(trained.data), db.Dataset)
assert_type(db.explain(trained, queries=4), db.Attribution)
assert_type(db.load("digits").take([0, 1]), db.Dataset)
assert_type(db.memory.replace(trained), db.Run)
print(db.measure(trained).to_json(), db.compare(trained, trained).sentence)
