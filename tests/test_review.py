"""The review: decisions that stay, queues, a server that nobody else can use, a page for keys alone."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pandas
import pytest
import torch
from conftest import TINY, blobs

from datablame import Dataset, InputError, Run, audit, figures, verbs
from datablame.analyses import attribute, memory
from datablame.analyses.behind import Behind
from datablame.analyses.certificate import Drawing
from datablame.analyses.evidence import Evidence
from datablame.base import progress
from datablame.cli import main
from datablame.decisions import FILE, Decision, Decisions, count
from datablame.exchange.answers import asked
from datablame.inference.folds import trained
from datablame.pages import gallery
from datablame.pages.sections import suspects
from datablame.review import learning
from datablame.review.server import LARGEST
from datablame.review.session import Session
from datablame.verdict import ASK, DROP, FIX, KEEP, Verdict


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A judged run on blobs with three wrong labels."""
    out = tmp_path_factory.mktemp("runs")
    run = verbs.train(blobs(90, wrong=(7, 20, 33)), recipe=TINY, out=out, holdout=0)
    verbs.judge(run, verbs.score(run))
    return run.path


@pytest.fixture
def judged(whole, tmp_path):
    """A copy of that run, of a test's own."""
    return Run(shutil.copytree(whole, tmp_path / "runs" / whole.name))


@pytest.fixture
def kept(judged):
    kept = Decisions(judged.path / FILE, judged.data)
    yield kept
    kept.close()


@pytest.fixture
def session(judged):
    found = Session(judged)
    yield found
    found.decisions.close()


@pytest.fixture
def page(judged):
    found = verbs.review(judged, port=9300 + os.getpid() % 500, wait=False)
    yield found
    found.close()


def got(page, path, body=None, **headers):
    """(status, answer) of a request as the page makes it; a header that is None is left out."""
    base, token = page.url.split("#")
    known = {"x-datablame-token": token, "content-type": "application/json"} | headers
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        base + path, data, {name: value for name, value in known.items() if value is not None}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def said(page, path, body=None):
    status, content = got(page, path, body)
    assert status == 200, content
    return json.loads(content)


# --- decisions ---


def test_decisions_stay_and_can_be_taken_back(kept, judged):
    first = kept.add(Decision(7, "wrong", 1, "anna", "blurred", 0.9))
    kept.add(Decision(8, "right", by="anna"))
    kept.add(Decision(7, "drop", by="anna"))
    assert [each.act for each in kept.standing()] == ["wrong", "right", "drop"]
    assert kept.settled()[7].act == "drop"  # the last of a person counts
    assert kept.undo("anna").act == "drop"
    assert kept.settled()[7] == first
    assert kept.undo("ben") is None
    kept.add(Decision(8, "wrong", by="ben"))
    assert kept.conflicts() == [8]
    assert 8 not in kept.settled()
    again = Decisions(judged.path / FILE, judged.data)
    assert again.every == kept.every
    assert again.settled() == kept.settled()
    assert (first.note, first.score, first.number) == ("blurred", 0.9, 1)
    table = again.columns()
    assert table["stands"] == [True, True, False, False, True]
    assert table["label"][0] == "middle"
    assert count(judged.path) == 5
    again.close()


def test_a_label_that_is_the_given_one_is_right(kept, judged):
    given = int(judged.data.labels[3])
    found = kept.add(Decision(3, "wrong", given, "anna"))
    assert (found.act, found.label) == ("right", -1)


def test_the_same_mark_is_kept_once(kept):
    one = kept.add(Decision(3, "drop", by="anna"), "abc")
    two = kept.add(Decision(4, "right", by="anna"), "abc")
    assert one == two
    assert len(kept.every) == 1


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision(90, "right"), "no example 90 among 90"),
        (Decision(-1, "right"), "no example -1"),
        (Decision(3, "maybe"), "no decision 'maybe'"),
        (Decision(3, "wrong", 3), "no class 3"),
        (Decision(3, "drop", 1), "a class goes with 'wrong'"),
        (Decision(3, "right", note="x" * 10_001), "at most 10,000 signs"),
    ],
)
def test_bad_decisions_are_sentences(kept, decision, message):
    with pytest.raises(InputError, match=message):
        kept.add(decision)
    assert not kept.every


def test_nothing_in_the_file_is_changed_or_removed(kept, judged):
    kept.add(Decision(3, "drop"))
    other = sqlite3.connect(judged.path / FILE)
    for statement in ("UPDATE decisions SET act = 'right'", "DELETE FROM decisions"):
        with pytest.raises(sqlite3.IntegrityError, match="decisions stay"):
            other.execute(statement)
    other.close()


def test_files_that_cannot_be_used_are_sentences(judged, tmp_path):
    path = judged.path / FILE
    Decisions(path, judged.data).close()
    with pytest.raises(InputError, match="decisions of another set"):
        Decisions(path, blobs())
    db_file = sqlite3.connect(path)
    db_file.execute("PRAGMA user_version=2")
    db_file.close()
    with pytest.raises(InputError, match=r"a later version .* \(its format 2; this one reads 1\)"):
        Decisions(path, judged.data)
    assert main(["review", str(judged.path)]) == 2
    for beside in judged.path.glob(f"{FILE}-*"):
        beside.unlink()
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(InputError, match="cannot be used as decisions of a review"):
        Decisions(path, judged.data)


def test_a_decision_that_is_not_as_it_was_written_is_told(kept, judged, capsys):
    kept.add(Decision(3, "drop", by="anna", note="a hopeless case"))
    kept.close()
    path = judged.path / FILE
    content = path.read_bytes()
    assert content.count(b"a hopeless case") == 1
    path.write_bytes(content.replace(b"a hopeless case", b"a hopeful case!"))
    with pytest.raises(InputError, match="decision 1 is not as it was written"):
        Decisions(path, judged.data)
    assert main(["doctor", str(judged.path)]) == 1
    assert "decision 1 is not as it was written" in capsys.readouterr().out
    path.write_bytes(content)
    assert main(["doctor", str(judged.path)]) == 0


def test_decisions_of_before_there_were_seals_are_read(kept, judged):
    kept.add(Decision(3, "drop", by="anna", score=0.5))
    kept.close()
    file = sqlite3.connect(judged.path / FILE)
    file.execute("DROP TABLE seals")
    file.close()
    for many in (1, 2):
        again = Decisions(judged.path / FILE, judged.data)
        assert [each.row for each in again.standing()] == [3, 4][:many]
        again.add(Decision(4, "right", by="anna"), mark="once")
        again.close()


def test_a_verdict_goes_by_what_people_decided(kept, judged):
    verdict = judged.verdict
    right = int(verdict.suspects[0])
    for decision in (
        Decision(right, "right", by="anna"),
        Decision(1, "wrong", (int(judged.data.labels[1]) + 1) % 3, "anna"),
        Decision(2, "wrong", by="ben"),
        Decision(4, "drop", by="ben"),
        Decision(5, "unsure", by="ben"),
        Decision(6, "right", by="ben"),
        Decision(6, "drop", by="anna"),
    ):
        kept.add(decision)
    found = judged.verdict
    assert [int(found.act[row]) for row in (right, 1, 2, 4, 5, 6)] == [
        KEEP, FIX, DROP, DROP, ASK, ASK
    ]  # fmt: skip
    assert int(found.proposed[1]) == (int(judged.data.labels[1]) + 1) % 3
    assert [float(found.p_wrong[row]) for row in (right, 1, 2)] == [0.0, 1.0, 1.0]
    assert float(found.p_wrong[4]) == float(verdict.p_wrong[4])  # left out is not wrong
    rest = [row for row in range(90) if row not in (right, 1, 2, 4, 5, 6)]
    assert torch.equal(found.act[rest], verdict.act[rest])
    assert found.by == verdict.by
    assert found.whose == f"{verdict.by}, with 5 decisions by anna, ben"
    assert found.by_each(torch.tensor([1, 2, 0])) == ["anna", "ben", verdict.by]
    assert torch.equal(found.take(torch.tensor([2, 1])).decided, torch.tensor([1, 0]))
    again = verdict.standing(found)
    assert torch.equal(again.act, torch.where(found.decided >= 0, found.act, verdict.act))


def test_cleaning_export_and_retraining_go_by_decisions(kept, judged, tmp_path):
    comparison = verbs.retrain(judged)
    assert judged.comparison is not None
    row = next(row for row in range(90) if int(judged.verdict.act[row]) == KEEP)
    to = (int(judged.data.labels[row]) + 1) % 3
    for suspect in judged.verdict.suspects.tolist():
        kept.add(Decision(suspect, "right", by="anna"))
    kept.add(Decision(row, "wrong", to, "anna"))
    kept.close()
    assert judged.comparison is None  # it was of another verdict
    cleaned = verbs.clean(judged, out=tmp_path / "cleaned.parquet")
    assert len(cleaned) == 90
    assert int(cleaned.labels[row]) == to
    changes = pandas.read_csv(tmp_path / "cleaned-changes.csv")
    assert changes["why"].tolist() == ["fix by anna"]
    verbs.export(judged, tmp_path / "table.parquet")
    table = pandas.read_parquet(tmp_path / "table.parquet")
    assert table["by"][row] == "anna"
    assert table["act"][row] == "fix"
    assert set(table["by"]) == {"anna", "posterior"}
    again = verbs.retrain(judged)
    assert judged.comparison is not None
    assert again["removed" if "removed" in again.to_json() else "before"] is not None
    assert comparison is not again
    assert "with" in str(judged)


def test_decisions_stand_in_the_proof_on_folds(judged, monkeypatch):
    """What people decided is cleaned in the training part of each fold, too."""
    from datablame.evaluation import retraining

    rows = [row for row in range(0, 90, 9) if int(judged.verdict.act[row]) == KEEP]
    kept = Decisions(judged.path / FILE, judged.data)
    for row in rows:
        kept.add(Decision(row, "drop", by="anna"))
    kept.close()
    sizes = []
    real = retraining.Training.made

    def watched(training):
        sizes.append((training.kind, set(training.data.names.to_pylist())))
        return real(training)

    monkeypatch.setattr(retraining.Training, "made", watched)
    verbs.retrain(judged)
    names = {judged.data.name(row) for row in rows}
    for kind, there in sizes:
        assert bool(names & there) == (kind != "after"), kind


# --- queues ---


def test_queues_are_in_order_and_leave_out_what_is_settled(session, judged):
    order = judged.verdict.suspicion.argsort(descending=True, stable=True).tolist()
    found = session.queue({"queue": "hunt", "count": "90"})
    assert [each["row"] for each in found["items"]] == order
    assert (found["total"], found["left"]) == (90, 90)
    by = session.queue({"queue": "hunt", "signal": "aum", "count": "3"})
    ranks = session.evidence.order["aum"]
    assert [int(ranks[each["row"]]) for each in by["items"]] == [1, 2, 3]
    session.decide({"row": order[0], "act": "right"}, "anna")
    found = session.queue({"queue": "hunt", "start": "1", "count": "2"})
    assert [each["row"] for each in found["items"]] == order[2:4]
    assert found["left"] == 89
    every = session.queue({"queue": "hunt", "open": "0", "count": "1"})["items"]
    assert every[0]["decided"] == [{"act": "right", "label": -1, "by": "anna", "note": ""}]
    first = found["items"][0]
    pair = {key: str(first[key]) for key in ("given", "proposed")}
    cell = session.queue({"queue": "hunt", "count": "90"} | pair)["items"]
    assert first in cell
    assert {(each["given"], each["proposed"]) for each in cell} == {
        (first["given"], first["proposed"])
    }
    name = judged.data.name(12)
    assert [each["row"] for each in session.queue({"search": name.upper()})["items"]] == [12]
    session.decide({"row": order[0], "act": "drop"}, "ben")
    assert [each["row"] for each in session.queue({"queue": "conflicts"})["items"]] == [order[0]]
    for bad, message in (
        ({"queue": "all"}, "no queue 'all'"),
        ({"signal": "auum"}, "no scores 'auum'"),
        ({"given": "x"}, "given is a number"),
        ({"start": "-1"}, "start is a number"),
    ):
        with pytest.raises(InputError, match=message):
            session.queue(bad)


def test_the_learned_order_follows_decisions():
    generator = np.random.default_rng(0)
    n = 4000
    wrong = generator.random(n) < 0.2
    useful, useless = wrong + generator.normal(0, 1, n), generator.normal(0, 1, n)
    p = 1 / (1 + np.exp(-(useless - 1.5)))  # the machine goes by the useless one
    x, pair = learning.features([useful, useless]), np.zeros(n, int)
    none = learning.reordered(x, p, pair, np.zeros(0, int), np.zeros(0, bool))
    assert np.allclose(none, learning.logit(p))
    rows = np.argsort(-p)[:200]
    odds = learning.reordered(x, p, pair, rows, wrong[rows])
    rest = np.setdiff1d(np.arange(n), rows)

    def hits(order):
        return wrong[rest[np.argsort(-order[rest])[:300]]].mean()

    assert hits(odds) > hits(p) + 0.15
    pair = (np.arange(n) % 2).astype(int)
    odd = pair == 1  # only in one cell are labels wrong
    told = learning.reordered(np.zeros((n, 0)), np.full(n, 0.3), pair, rows, odd[rows])
    assert told[odd].min() > told[~odd].max() + 1


def test_learn_takes_what_is_left_out_for_wrong_and_knows_no_answers(session, judged):
    for row in range(20):
        session.decide({"row": row, "act": "drop", "queue": "learn"}, "anna")
    before = session._known[0]
    dropped = session._learn().copy()
    other = Session(judged)  # the decisions are there when it begins
    assert np.array_equal(other._known[0], before)
    assert np.allclose(other._learn(), dropped)
    machine = Verdict.read(judged.path / "verdict.csv", judged.data).p_wrong
    assert np.allclose(other.evidence.scores()["p_wrong"], machine)
    rest = np.arange(20, 90)
    assert dropped[rest].mean() > learning.logit(machine.numpy())[rest].mean()
    other.decisions.close()


def test_certify_goes_on_with_a_drawing_of_another_seed_and_begins_anew(session, judged, tmp_path):
    verbs.certify(judged, draw=5, seed=3, out=tmp_path / "sheet.csv")
    order = asked(Drawing.of(judged, 3).images(20))
    for row in order[:4]:
        assert session.certify("anna")["next"]["row"] == row
        session.decide({"row": row, "act": "right", "queue": "certify"}, "anna")
    assert session.certificate("anna")["answered"] == 4
    (judged.path / "certificate.safetensors").unlink()
    anew = Session(judged)  # seed 0: other images are asked about
    first = asked(Drawing.of(judged).images(20))
    assert first[0] != order[0]
    assert anew.certify("anna") == {
        "answered": 0, "next": anew.item(first[0]) | {"again": False, "decided": []}
    }  # fmt: skip
    anew.decisions.close()


def test_learn_orders_anew_after_twenty_decisions(session):
    first = [each["row"] for each in session.queue({"queue": "learn", "count": "90"})["items"]]
    for row in first[:19]:
        session.decide({"row": row, "act": "right", "queue": "learn"}, "anna")
    found = session.queue({"queue": "learn", "count": "90"})["items"]
    assert [each["row"] for each in found] == first[19:]
    session.decide({"row": first[19], "act": "right", "queue": "learn"}, "anna")
    found = session.queue({"queue": "learn", "count": "90"})["items"]
    assert {each["row"] for each in found} == set(first[20:])
    assert session._learned[0] == 1


def test_certify_asks_and_counts_as_the_command_line_does(session, judged, tmp_path):
    truth = judged.data.truth
    order = asked(Drawing.of(judged).images(40))
    for row in order[:30]:
        item = session.certify("anna")["next"]
        assert item["row"] == row
        assert item["decided"] == []  # nothing sways the answer
        right, given = int(truth[row]), int(judged.data.labels[row])
        act = {"act": "right"} if right == given else {"act": "wrong", "label": right}
        session.decide({"row": row, "queue": "certify"} | act, "anna")
    with pytest.raises(InputError, match=f"example {order[30]} is asked about, not {order[0]}"):
        session.decide({"row": order[0], "queue": "certify", "act": "right"}, "anna")
    facts = session.certificate("anna")
    assert facts["answered"] == 30
    assert "labels are wrong, by" in facts["certificate"]["sentence"]
    paged = json.loads((judged.path / "certificate.json").read_text())
    count = len(set(order[:30]))
    verbs.certify(judged, draw=count, out=tmp_path / "sheet.csv")
    sheet = pandas.read_csv(tmp_path / "sheet.csv", dtype=str, keep_default_na=False)[:30]
    names = judged.data.names.to_pylist()
    sheet["answer"] = [judged.data.classes[int(truth[names.index(name)])] for name in sheet["name"]]
    sheet["by"] = "anna"
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    verbs.certify(judged, answers=tmp_path / "sheet.csv")
    typed = json.loads((judged.path / "certificate.json").read_text())
    assert paged == typed
    chance = session.decisions.standing("certify")[0].chance
    drawing = session.drawing
    assert chance == pytest.approx(
        drawing.share[drawing.stratum[order[0]]] / drawing.sizes[drawing.stratum[order[0]]]
    )
    assert session.undo("anna")["row"] == order[29]
    assert session.certify("anna")["next"]["row"] == order[29]
    assert session.certify("ben")["next"]["row"] == order[0]


# --- evidence ---


def test_evidence_in_words_and_numbers(judged, session):
    facts = session.example(7)
    given, truth = (
        judged.data.classes[int(part[7])] for part in (judged.data.labels, judged.data.truth)
    )
    said, learned, near = facts["reasons"]
    assert said.startswith(f"Models that never saw it say {truth} (")
    assert f"; {given} gets " in said
    assert learned.startswith("Learning from it, the model said ")
    assert re.fullmatch(
        rf"[012] of its 20 nearest neighbours are labelled {given}, \d\d {truth}\.", near
    )
    p = np.load(judged.path / "heldout.npy")[7]
    assert facts["likeliest"][0] == (int(p.argmax()), pytest.approx(float(p.max())))
    assert len(facts["trace"]["given"]) == judged.trace.epochs
    loss = judged.trace["loss"][-1, 7]
    assert facts["trace"]["given"][-1] == pytest.approx(float(np.exp(-np.float32(loss))), abs=1e-3)
    assert facts["ranks"]["p_wrong"] <= 3
    rows = [each["row"] for each in facts["neighbours"]]
    assert 7 not in rows
    assert len(set(rows)) == 12
    assert sum(int(judged.data.truth[row]) == int(judged.data.truth[7]) for row in rows) >= 11
    assert [each["cosine"] for each in facts["neighbours"]] == sorted(
        (each["cosine"] for each in facts["neighbours"]), reverse=True
    )


def test_a_run_with_nothing_but_predictions_is_reviewed(tmp_path):
    labels = np.arange(60) % 3
    p = np.full((60, 3), 0.1)
    p[np.arange(60), labels] = 0.8
    p[4] = [0.9, 0.05, 0.05]
    run = verbs.find(labels, p, out=tmp_path / "run")
    found = Session(run)
    facts = found.example(4)
    assert facts["neighbours"] == []
    assert facts["trace"] == {}
    assert facts["reasons"] == ["Models that never saw it say 0 (90%); 1 gets 5%."]
    assert found.state()["drawn"] is False
    found.decisions.close()
    assert Evidence(run).likeliest(4)[0][0] == 0


# --- the server ---


def test_a_decision_over_the_page_is_kept(page, judged):
    state = said(page, "api/state?by=anna")
    assert (state["examples"], state["settled"]) == (90, 0)
    item = said(page, "api/queue?queue=hunt&count=1")["items"][0]
    body = {"row": item["row"], "act": "wrong", "label": item["proposed"], "mark": "one"}
    first = said(page, "api/decide?by=anna", body)
    assert said(page, "api/decide?by=anna", body) == first  # asked twice, kept once
    rest = said(page, "api/queue?queue=hunt&count=2")["items"]
    several = [{"row": each["row"], "act": "right"} for each in rest]
    assert len(said(page, "api/settle?by=anna", {"decisions": several})["kept"]) == 2
    assert said(page, "api/undo?by=anna", {})["row"] == rest[1]["row"]
    state = said(page, "api/state?by=anna")
    assert (state["settled"], state["counts"]["wrong"]) == (2, 1)
    status, picture = got(page, f"api/image/{item['row']}?side=96")
    assert status == 200
    assert picture.startswith(b"\x89PNG")
    decided = verbs.decided(judged)
    assert decided.to_json()["decided"] == 2
    assert decided.to_json()["people"] == ["anna"]


FORGED = [
    {"host": "evil.example"},
    {"host": "127.0.0.1"},
    {"host": "127.0.0.1:1"},
    {"host": "localhost.evil.example"},
    {"host": "127.0.0.1.nip.io"},
    {"host": ""},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "https://localhost"},
    {"origin": "file://"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "unknown"},
    {"x-datablame-token": None},
    {"x-datablame-token": ""},
    {"x-datablame-token": "x" * 32},
    {"x-datablame-token": "é"},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": None},
]


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_forged_requests_are_refused(page, headers):
    body = {"row": 3, "act": "right"}
    try:
        status, content = got(page, "api/decide", body, **headers)
    except UnicodeEncodeError:
        pytest.skip("not sent by this client")
    assert status in (400, 403), content
    assert said(page, "api/state")["settled"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "api/decide?row=3&act=right",
        "api/undo",
        "api/settle",
        "api/finish",
        "api/image/-1",
        "api/image/90",
        "api/image/../3",
        "api/image/%2e%2e%2fdata",
        "api/image/3?side=99999",
        "api/example/x",
        "..%2freview.sqlite",
        "review.sqlite",
        "report.html",
        "%2e%2e/run.json",
    ],
)
def test_nothing_is_changed_or_shown_by_other_paths(page, path):
    status, content = got(page, path)
    assert status in (400, 403, 404, 405), content
    assert b"Traceback" not in content
    assert said(page, "api/state")["settled"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]", "an object is expected"),
        (b"{", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"x" * (LARGEST + 1), "at most"),
        ({"row": "3", "act": "right"}, "numbers"),
        ({"row": True, "act": "right"}, "numbers"),
        ({"row": 10**30, "act": "right"}, "no example"),
        ({"row": 3, "act": ["right"]}, "words"),
        ({"row": 3, "act": "right", "queue": "x"}, "no queue"),
        ({"row": 3}, "no decision"),
    ],
)
def test_bad_requests_are_sentences(page, body, message):
    status, content = got(page, "api/decide", body)
    assert status == 400
    assert message in json.loads(content)["error"]
    status, content = got(page, "api/decide?by=" + "x" * 300, {"row": 3, "act": "right"})
    assert status == 400
    assert said(page, "api/state")["settled"] == 0


def test_a_proxy_and_a_link_may_lead_to_the_page(judged):
    found = verbs.review(judged, port=8890, origin="https://hub.example.org/", wait=False)
    host = {"host": "hub.example.org", "origin": "https://hub.example.org"}
    assert got(found, "api/state", **host)[0] == 200
    assert got(found, "api/state", host="hub.example.org.evil.com")[0] == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert got(found, "", **link)[0] == 200  # the bare page, which knows nothing
    assert got(found, "api/state", **link)[0] == 403
    assert got(found, "", **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})[0] == 403
    assert got(found, "api/image/3?side=abc")[0] == 400
    found.close()


def test_headers_let_no_other_page_in(page):
    base = page.url.split("#")[0]
    with urllib.request.urlopen(base) as answer:
        known, text = answer.headers, answer.read().decode()
    policy = known["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert known["x-content-type-options"] == "nosniff"
    assert not [name for name in known if name.lower().startswith("access-control")]
    assert page.token not in text
    assert "<script>" not in text
    assert "style=" not in text


def test_one_server_a_run_and_a_free_port(page, judged, capsys):
    with pytest.raises(InputError, match="is reviewed already, by this program"):
        verbs.review(judged, wait=False)
    words = [sys.executable, "-m", "datablame", "review", str(judged.path)]
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "is reviewed already, by another program" in second.stderr
    other = verbs.train(blobs(60), recipe=TINY, out=judged.path.parent, holdout=0)
    assert main(["review", str(other.path)]) == 2
    assert "not judged yet" in capsys.readouterr().err
    verbs.judge(other, verbs.score(other))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        second = verbs.review(other, port=port, wait=False)
        assert second.port != port
        assert f"port {port} is in use: this is port {second.port}" in capsys.readouterr().err
        assert said(second, "api/state")["examples"] == 60
        second.close()
    progress.quiet()
    third = verbs.review(other, wait=False)  # the first was let go
    assert third.url in capsys.readouterr().err, "nobody could open it else"
    third.close()


def test_other_hosts_need_tls(judged, monkeypatch, tmp_path):
    with pytest.raises(
        InputError, match=r"0\.0\.0\.0 can be reached by others: give --certificate"
    ):
        verbs.review(judged, host="0.0.0.0")
    pair = {"certificate": tmp_path / "a", "key": tmp_path / "b"}
    with pytest.raises(InputError, match=r"0\.0\.0\.0 is no address to open: say by --origin"):
        verbs.review(judged, host="0.0.0.0", **pair)
    with pytest.raises(InputError, match="there is no file"):
        verbs.review(judged, host="0.0.0.0", origin="https://here.example", **pair)
    for path in pair.values():
        path.write_text("no certificate")
    with pytest.raises(InputError, match="are no pair"):
        verbs.review(judged, **pair)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'datablame\[review\]'"):
        verbs.review(judged)


SERVE = """
import sys
import datablame as db
page = db.review(sys.argv[1], port=int(sys.argv[2]), wait=False)
print(page.url, flush=True)
page.wait()
"""


def test_a_killed_server_loses_no_decision_that_was_acknowledged(judged, tmp_path):
    known = {}
    generator = np.random.default_rng(0)
    for turn in range(3):
        words = [sys.executable, "-c", SERVE, str(judged.path), str(9900 + os.getpid() % 90)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            page = type("Page", (), {"url": server.stdout.readline().strip()})
            end = time.monotonic() + float(generator.uniform(0.05, 0.6))
            while time.monotonic() < end:
                row, act = int(generator.integers(90)), ("right", "drop")[turn % 2]
                answer = said(page, "api/decide?by=anna", {"row": row, "act": act})
                known[answer["number"]] = (row, act)
            server.send_signal(signal.SIGKILL)
        kept = Decisions(judged.path / FILE, judged.data)
        there = {number: (each.row, each.act) for number, each in kept.every.items()}
        assert there == known
        kept.close()
    assert len(known) > 10


# --- other tools ---


def test_decisions_go_to_other_tools_and_come_back(judged, kept, tmp_path, capsys):
    with pytest.raises(InputError, match="nothing was decided in"):
        verbs.decided(verbs.train(blobs(60), recipe=TINY, out=tmp_path / "other", holdout=0))
    to = (int(judged.data.labels[1]) + 1) % 3
    kept.add(Decision(1, "wrong", to, "anna", "note"))
    kept.add(Decision(2, "right", by="anna"))
    kept.add(Decision(3, "drop", by="ben"))
    kept.add(Decision(4, "unsure", by="ben"))
    kept.add(Decision(5, "right", by="ben"))
    kept.undo("ben")
    kept.close()
    assert main(["decided", str(judged.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "examples": 90, "decided": 4, "right": 1, "wrong": 1, "drop": 1, "unsure": 1,
        "conflicts": 0, "people": ["anna", "ben"],
    }  # fmt: skip
    for name in ("table.csv", "tasks.json"):
        assert verbs.decided(judged, out=tmp_path / name) == tmp_path / name
    again = verbs.train(judged.data, recipe=TINY, out=tmp_path / "again", holdout=0)
    verbs.judge(again, verbs.score(again))
    found = verbs.decided(again, read=tmp_path / "table.csv")
    assert found.to_json() == facts
    table = pandas.DataFrame(found.columns())
    assert table["note"].tolist()[0] == "note"
    verbs.decided(again, read=tmp_path / "table.csv")
    assert count(again.path) == 4  # read twice, kept once
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    suspects = len(Verdict.read(judged.path / "verdict.csv", judged.data).suspects)
    assert len(tasks) >= suspects
    task = next(each for each in tasks if each["data"]["name"] == judged.data.name(1))
    assert task["annotations"][0]["result"] == [
        {"from_name": "label", "to_name": "image", "type": "choices",
         "value": {"choices": [judged.data.classes[to]]}}
    ]  # fmt: skip
    third = verbs.train(judged.data, recipe=TINY, out=tmp_path / "third", holdout=0)
    verbs.judge(third, verbs.score(third))
    back = verbs.decided(third, read=tmp_path / "tasks.json").to_json()
    assert {key: back[key] for key in ("right", "wrong", "drop", "unsure")} == {
        "right": 1, "wrong": 1, "drop": 1, "unsure": 0  # a cancelled task says nothing
    }  # fmt: skip


def test_answers_that_change_back_and_classes_called_right(judged, tmp_path):
    names = ("drop", "right", "other")
    for word in ("other", "right", "other"):
        path = tmp_path / "one.csv"
        path.write_text(f"name,label,by\n{judged.data.name(1)},{word},anna\n")
        labels = np.arange(90) % 3
        p = np.full((90, 3), 0.05)
        p[np.arange(90), labels] = 0.9
        run = verbs.find(labels, p, classes=names, names=judged.data.names.to_pylist(),
                         out=tmp_path / "run")  # fmt: skip
        verbs.decided(run, read=path)
    kept = Decisions(run.path / FILE, run.data)
    assert [each.label for each in kept.standing()] == [2, -1, 2]  # class right is the given one
    kept.add(Decision(3, "right", by="ben"))
    kept.close()
    verbs.decided(run, out=tmp_path / "all.csv")
    (run.path / FILE).unlink()
    for beside in run.path.glob(f"{FILE}-*"):
        beside.unlink()
    verbs.decided(run, read=tmp_path / "all.csv")
    kept = Decisions(run.path / FILE, run.data)
    assert (kept.settled()[3].act, kept.settled()[1].label) == ("right", 2)
    kept.close()


def test_labels_changed_in_fiftyone_are_decisions(judged, tmp_path):
    data = judged.data
    given = [data.classes[k] for k in data.labels.tolist()]
    other = data.classes[(int(data.labels[1]) + 1) % 3]
    samples = [
        {"filepath": f"/elsewhere/{data.name(row)}", "tags": [],
         "ground_truth": {"_cls": "Classification", "label": other if row == 1 else given[row]}}
        for row in range(6)
    ]  # fmt: skip
    samples[2]["tags"], samples[3]["tags"] = ["right", "train"], ["drop"]
    path = tmp_path / "samples.json"
    path.write_text(json.dumps({"samples": samples}))
    found = verbs.decided(judged, read=path)
    assert found.to_json()["decided"] == 3
    act = judged.verdict.act
    assert [int(act[row]) for row in (1, 2, 3)] == [FIX, KEEP, DROP]


def test_decisions_go_to_fiftyone_and_come_back(judged, kept, whole, tmp_path, capsys):
    data = judged.data
    kept.add(Decision(7, "wrong", int(data.truth[7]), "anna", "blurred"))
    kept.add(Decision(20, "right", by="anna"))
    kept.add(Decision(1, "drop", by="ben"))
    kept.add(Decision(2, "unsure", by="ben"))
    kept.add(Decision(3, "wrong", by="ben"))
    path = verbs.decided(judged, out=str(tmp_path / "fiftyone" / "samples.json"))
    samples = {each["filepath"]: each for each in json.loads(path.read_text())["samples"]}
    own = {row: samples[data.name(row)] for row in (7, 20, 1, 2, 3, 33)}
    assert [each["tags"] for each in own.values()] == [[], ["right"], ["drop"], ["unsure"], ["wrong"], []]  # fmt: skip
    assert own[7]["ground_truth"]["label"] == data.classes[int(data.truth[7])]
    assert own[7]["given"]["label"] == data.classes[int(data.labels[7])]
    assert (own[7]["by"], own[7]["note"]) == ("anna", "blurred")
    assert own[33]["proposed"] == {
        "_cls": "Classification",
        "label": data.classes[int(judged.undecided.proposed[33])],
        "confidence": round(float(judged.undecided.probability[33]), 4),
        "tags": [],
    }
    assert 0 < own[33]["p_wrong"] <= 1
    own[3]["ground_truth"]["label"] = data.classes[(int(data.labels[3]) + 1) % 3]  # named there
    path.write_text(json.dumps({"samples": list(samples.values())}))
    again = Run(shutil.copytree(whole, tmp_path / "again" / whole.name))
    verbs.decided(again, read=str(path))
    with contextlib.closing(Decisions(again.path / FILE, again.data)) as read:
        found = {row: (each.act, each.label) for row, each in read.settled().items()}
    assert found == {
        7: ("wrong", int(data.truth[7])), 20: ("right", -1), 1: ("drop", -1), 2: ("unsure", -1),
        3: ("wrong", (int(data.labels[3]) + 1) % 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,act\nnobody,right\n", "names nobody, no example of this"),
        ("a.csv", "name,act\ntrain/000001,maybe\n", "names a class that is not there: maybe"),
        ("a.csv", "file,verdict\n1,2\n", "has no columns name and act"),
        ("a.json", "{}", "is neither Label Studio's export"),
        ("a.json", "[1", "is no JSON|is damaged"),
        ("a.json", '{"samples": [{}]}', "no filepath"),
        ("a.txt", "", "is no file of decisions"),
    ],
)
def test_files_of_other_tools_that_do_not_fit(judged, tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        verbs.decided(judged, read=path)
    assert count(judged.path) == 0
    with pytest.raises(InputError, match="not both"):
        verbs.decided(judged, read=path, out=tmp_path / "b.csv")


def test_nothing_is_read_while_a_review_is_open(page, judged, tmp_path):
    said(page, "api/decide?by=anna", {"row": 3, "act": "right"})
    verbs.decided(judged, out=tmp_path / "table.csv")  # written it may be
    with pytest.raises(InputError, match="is reviewed already"):
        verbs.decided(judged, read=tmp_path / "table.csv")


# --- strange sets ---


def test_strange_names_and_many_classes(tmp_path):
    strange = ["<script>alert(1)</script>", "שָׁלוֹם \u202e reversed", "x" * 10_000]
    classes = [*strange, *(f"class {k}" for k in range(10_000))]
    labels = np.arange(120) % 3
    p = np.full((120, len(classes)), 1e-5, "float32")
    p[np.arange(120), labels] = 0.9
    p[5, :3] = [0.97, 0.01, 0.01]
    p /= p.sum(1, keepdims=True)
    run = verbs.find(labels, p, classes=classes, out=tmp_path / "run")
    found = Session(run)
    assert len(found.state()["classes"]) == 10_003
    note = strange[0] * 100
    found.decide({"row": 5, "act": "wrong", "label": 2, "note": note}, strange[1])
    facts = found.example(5)
    assert facts["decided"][0]["note"] == note
    found.decisions.close()
    assert Run(run.path).verdict.people == (strange[1],)


def test_a_set_without_suspects_is_reviewed(tmp_path):
    labels = np.arange(60) % 3
    p = np.eye(3)[labels] * 0.97 + 0.01
    run = verbs.find(labels, p, out=tmp_path / "run")
    found = Session(run)
    assert found.state()["suspects"] == len(run.verdict.suspects)
    assert len(found.queue({"count": "60"})["items"]) == 60
    found.decisions.close()


def test_texts_take_the_place_of_pictures(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 5))
    x[np.arange(60), np.arange(60) % 3] += 5
    data = Dataset.from_features(x, np.arange(60) % 3, texts=[f"letter {k}" for k in range(60)])
    run = verbs.audit(data, out=tmp_path / "runs", retrain=False)
    found = Session(run)
    assert found.example(9)["text"] == "letter 9"
    assert len(found.example(9)["neighbours"]) == 12
    found.decisions.close()


def test_a_decision_is_never_seen_by_what_judges(judged, kept):
    """The file's own verdict stays as it was judged; decisions lie on top."""
    kept.add(Decision(1, "drop", by="anna"))
    own = Verdict.read(judged.path / "verdict.csv", judged.data)
    assert int(own.act[1]) == KEEP
    assert int(judged.verdict.act[1]) == DROP
    verbs.report(judged)
    assert int(Verdict.read(judged.path / "verdict.csv", judged.data).act[1]) == KEEP


def test_runs_side_by_side(judged, tmp_path):
    other = verbs.train(judged.data, recipe=TINY, seed=5, out=tmp_path / "other", holdout=0)
    with pytest.raises(InputError, match="is not judged yet"):
        verbs.report(judged, other)
    known = judged.verdict.suspects[:5].tolist()
    scores = np.array([90.0 if row in known else float(row) for row in range(90)])
    verbs.judge(other, scores, judge="remove,share=0.5")
    page = verbs.report(judged, other)
    assert page == judged.path / "compared.html"
    text = page.read_text()
    mine, theirs = (set(run.verdict.suspects.tolist()) for run in (judged, other))
    line = [len(mine & theirs), len(mine - theirs), len(theirs - mine)]
    assert "".join(f"<td>{count}</td>" for count in line) in text
    for name in (judged.path.name, other.path.name):
        assert name in text
    assert mine & theirs
    with pytest.raises(InputError, match="--paper is of one run's report"):
        verbs.report(judged, other, paper=True)
    alone = judged.data.name(max(theirs - mine))
    assert f'title="{alone}"' in text.partition(f"{other.path.name} alone names these")[2]
    assert main(["report", str(judged.path), str(other.path)]) == 0


def test_the_report_says_how_scores_agree(judged):
    verbs.score(judged, "loss")
    text = verbs.report(judged).read_text()
    assert "How the scores agree" in text
    order = Evidence(judged).order
    a, b = (order[name].double() for name in ("aum", "loss"))
    correlation = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
    most = len(judged.verdict.suspects)
    common = float(((a <= most) & (b <= most)).sum()) / most
    assert f"<td>{correlation:.2f}<br>{common:.0%}</td>" in text


# --- what is behind it ---


def test_influential_images_are_those_of_the_exact_scores(tmp_path):
    data = blobs(90, wrong=(7, 20, 33))
    run = verbs.train(data, recipe=TINY.but(folds=0), out=tmp_path, holdout=0)
    verbs.judge(run, verbs.score(run, "aum"))
    verbs.index(run, block=8)
    session = Session(run)
    try:
        assert session.state()["behind"]
        assert not session.state()["heat"]
        found = session.behind_it(7)
        assert set(found) == {"towards", "away"}
        exact = attribute.attributed(run, run.data.take([7]), "influence").values[0].copy()
        exact[7] = 0
        order = np.argsort(-exact, kind="stable")
        assert [each["row"] for each in found["towards"]] == order[:6].tolist()
        assert [each["row"] for each in found["away"]] == order[::-1][:6].tolist()
        assert found["towards"][0]["value"] == pytest.approx(exact[order[0]], rel=0.01)
        assert found["towards"][0]["given"] == int(run.data.labels[order[0]])
        with pytest.raises(InputError, match="no memory"):
            session.heat(7)
    finally:
        session.decisions.close()
    page = verbs.report(run).read_text()
    assert "pushed away from the given label" in page


def test_images_behind_a_cross_fitted_run_are_of_its_first_fold(tmp_path):
    run = audit(blobs(90, wrong=(7, 20, 33)), recipe=TINY, out=tmp_path, retrain=False)
    assert run.cross_fitted
    behind = Behind(run)
    assert behind.index is None
    with pytest.raises(InputError, match="datablame index"):
        behind.pushed([7])
    verbs.index(run.with_model, block=8)
    towards, away = Behind(run).pushed([7])[0]
    fold = trained(run)[0]
    exact = attribute.attributed(fold.run, run.data.take([7]), "influence").values[0]
    best = fold.rest[torch.from_numpy(np.argsort(-exact, kind="stable").copy())].tolist()
    assert [row for row, _ in towards] == [row for row in best if row != 7][:6]
    assert 7 not in [row for row, _ in towards + away]


def test_a_model_with_a_memory_shows_what_it_recalls(tmp_path):
    wrap = TINY.but(head="memory_wrap,size=12", folds=0, checkpoints=0)
    run = verbs.train(blobs(90, wrong=(7, 20, 33)), recipe=wrap, out=tmp_path, holdout=0)
    verbs.judge(run, verbs.score(run, "aum"))
    session = Session(run)
    try:
        assert session.state()["heat"]
        found = session.behind_it(7)
        assert set(found) == {"answer", "examples", "counterfactuals"}
        view = memory.view(run, run.data.take([7]))
        assert found["answer"][0] == int(view.answers[0])
        recalled = [each["row"] for each in found["examples"] + found["counterfactuals"]]
        assert set(recalled) <= set(view.rows[0].tolist())
        assert found["examples"][0]["row"] == int(view.rows[0][view.first(0, True)])
        content, kind = session.heat(7)
        assert (content[:4], kind) == (b"\x89PNG", "png")
        with pytest.raises(InputError, match="no example 90"):
            session.behind_it(90)
    finally:
        session.decisions.close()
    assert "examples: the same answer" in verbs.report(run).read_text()


def test_figures_are_handed_over_as_the_report_draws_them(judged):
    verbs.measure(judged)
    page = verbs.report(judged)
    assert not list(page.parent.glob("figures/*.pdf")), "the page needs none"
    assert verbs.report(judged, paper=True) == page
    written = {path.stem for path in (page.parent / "figures").glob("*.pdf")}
    assert written == {path.stem for path in (page.parent / "figures").glob("*.svg")}
    before = {path: path.read_bytes() for path in (page.parent / "figures").iterdir()}
    found = figures(judged)
    assert set(found) == written, "a section's FIGURES name all that it draws"
    assert {"found", "ranking", "dynamics", "distribution", "training"} <= written
    assert found["training"].axes[1].get_title() == "training error, %"
    assert set(figures(judged.path, "dynamics", "found")) == {"dynamics", "found"}
    assert {path: path.read_bytes() for path in (page.parent / "figures").iterdir()} == before
    with pytest.raises(InputError, match="no figure 'trainin'; "):
        figures(judged, "trainin")
    with pytest.raises(InputError, match=r"no figure 'retraining'; it has: .*training"):
        figures(judged, "retraining")
    assert verbs.report(judged).read_text().count('class="figure"') >= 4, "asked for no longer"


def test_memory_by_stage_and_earlier_commands_stand_in_the_report(judged):
    verbs.score(judged, "knn,k=7")
    text = verbs.report(judged).read_text()
    assert "peak memory by then, MiB" in text
    assert "Commands before this one" in verbs.report(Run(judged.path)).read_text()
    profile = progress._Profile()
    with profile.stage("one"):
        held = np.ones(40 << 20, "uint8")
    with profile.stage("two"):
        del held
    rows = {name: peak for name, *_, peak in profile.rows()}
    assert rows["two"] >= rows["one"] > 40
    assert f"{rows['one']:,}" in str(profile)


def test_suspects_beyond_those_of_the_report_lie_in_a_gallery(judged, monkeypatch):
    names = [judged.data.name(row) for row in judged.judged.suspects.tolist()]
    assert len(names) >= 3
    page = verbs.report(judged)
    assert not (judged.path / "gallery").exists(), "the report shows them all"
    monkeypatch.setattr(suspects, "SHOWN", 1)
    monkeypatch.setattr(gallery, "EACH", 2)
    assert '<a href="gallery/1.html">all</a>' in verbs.report(judged).read_text()
    pages = sorted(path.name for path in (judged.path / "gallery").iterdir())
    assert pages == [f"{k}.html" for k in range(1, 1 + -(-len(names) // 2))]
    texts = [(judged.path / "gallery" / name).read_text() for name in pages]
    assert [name for name in names if f">{name}<" in texts[0]] == names[:2]
    assert "default-src &#39;none&#39;" in texts[0]
    assert f"Suspects 1 to 2 of {len(names)}" in texts[0]
    assert '<a href="2.html">the next page</a>' in texts[0]
    assert "the page before" not in texts[0]
    monkeypatch.setattr(gallery, "PAGES", 1)
    assert "the first 2</a>" in verbs.report(judged).read_text()
    assert [path.name for path in (judged.path / "gallery").iterdir()] == ["1.html"]
    monkeypatch.undo()
    assert "gallery/1.html" not in verbs.report(judged).read_text()
    assert list((judged.path / "gallery").iterdir()) == []
    assert page.exists()
