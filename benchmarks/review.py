"""The review: what the learned order finds, how soon a decision is kept, and what a kill loses."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import results

import datablame as db
from datablame.decisions import FILE, Decisions, count
from datablame.review import learning
from datablame.review.session import EVERY, Session

HOME = results.OUT / "review"
BARE = """
import torch
print(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
"""
SERVE = """
import sys
import datablame as db
page = db.review(sys.argv[1], port=int(sys.argv[2]), wait=False)
print(page.url, flush=True)
page.wait()
"""


def order_learned() -> str:
    """Wrong labels found in the first tenth of CIFAR-10N, with the truth as the reviewer."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    lines = []
    for name in ("aggre", "worse"):
        source = Path(__file__).parents[2] / "shared" / "data" / "cifar10"
        reading = db.Reading(label=(f"{name}_label",), truth="label", limit=10_000)
        run = db.audit(str(source), reading=reading, out=HOME / name, retrain=False)
        assert isinstance(run, db.Run)
        assert run.data.wrong is not None
        session = Session(run)
        x, p, pair = session._known
        wrong, budget = np.asarray(run.data.wrong), len(run.data) // 10
        seen, odds = np.zeros(len(p), bool), learning.logit(p)
        done: list[int] = []
        while len(done) < budget:
            some = np.argsort(-np.where(seen, -np.inf, odds), kind="stable")[:EVERY]
            seen[some] = True
            done += some.tolist()
            odds = learning.reordered(x, p, pair, np.array(done), wrong[done])
        order = session._order("hunt", "")
        model = LogisticRegression(C=0.1, max_iter=500)
        known = np.asarray(cross_val_predict(model, x, wrong, cv=5, method="predict_proba"))
        most = known[:, 1]
        found = [wrong[rows[:budget]].sum() for rows in (order, np.array(done), np.argsort(-most))]
        lines.append([name, f"{int(wrong.sum()):,}", *(f"{count:,}" for count in found)])
        session.decisions.close()
    head = ["labels", "wrong of 10,000", "hunt", "learn", "a model that knows all truths"]
    return (
        "Wrong labels among the first 1,000 images that a reviewer sees, who answers by the truth. "
        "The last column is a logistic regression on the same signals, fitted to the truth of four "
        "fifths and asked about the fifth: what any order by these signals could reach. The weight "
        "of pairs was chosen on these two sets.\n\n" + results.table(head, lines)
    )


def large() -> db.Run:
    """A run of 50,000 examples with pictures, features and predictions."""
    path, n = HOME / "large", 50_000
    if (path / "verdict.csv").exists():
        return db.Run(path)
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 100, n)
    labels = np.where(generator.random(n) < 0.1, generator.integers(0, 100, n), truth)
    p = generator.random((n, 100)).astype("float32") * 0.005
    p[np.arange(n), truth] += 0.7
    p /= p.sum(1, keepdims=True)
    features = generator.normal(size=(100, 64))[truth] + generator.normal(size=(n, 64))
    images = generator.integers(0, 256, (n, 3, 32, 32), dtype="uint8")
    run = db.find(labels, p, features, images=images, out=path)
    db.score(run, "knn", "confident")
    return run


def reported(run: db.Run) -> str:
    """Seconds and bytes of the report, and how soon a browser shows it."""
    began = time.perf_counter()
    page = db.report(run)
    took = time.perf_counter() - began
    said = f"The report of 50,000 examples: {took:.1f} s, {page.stat().st_size / 1e6:.1f} MB"
    chromium = shutil.which("chromium")
    if chromium is None:
        return f"{said}; there was no Chromium to open it."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        began = time.perf_counter()
        tab.goto(page.absolute().as_uri())
        opened = time.perf_counter() - began
        browser.close()
    return f"{said}; headless Chromium opens it in {opened:.2f} s. (Its pictures are noise.)"


def small(home: Path) -> str:
    """Seconds of the report of an audit of `digits`: again and again in one process, which has
    imported all that it needs."""
    run = db.train("digits", noise="uniform", amount=0.1, out=home)
    db.judge(run, db.score(run))
    db.report(run)
    taken = []
    for paper in (False, True):
        taken.append([])
        for _ in range(5):
            began = time.perf_counter()
            db.report(run, paper=paper)
            taken[-1].append(time.perf_counter() - began)
    page, paper = map(float, np.median(np.array(taken), 1))
    count = len(list((run.path / "figures").glob("*.svg")))
    return (
        f"The report of `digits`, {count} figures, medians of five in one process: {page:.1f} s (asked: 0.7), "
        f"with --paper {paper:.1f} s. That of an audit, seven figures, in turns with the commit before figures "
        "were drawn once each (six times until then): 7.8 s before, 3.0 s after (2026-11-29)."
    )


class Reviewer:
    """A connection that stays open, as a browser's does."""

    def __init__(self, url: str, name: str):
        base, self.token = url.split("#")
        self.name = name
        self.line = http.client.HTTPConnection(base.split("/")[2])
        self.line.connect()
        self.line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as browsers do

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        known = {"x-datablame-token": self.token, "content-type": "application/json"}
        sent = None if body is None else json.dumps(body)
        mark = "&" if "?" in path else "?"
        method = "GET" if body is None else "POST"
        self.line.request(method, f"/api/{path}{mark}by={self.name}", sent, known)
        answer = self.line.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content)
        return json.loads(content) if "image" not in path else content


def served(run: db.Run, port: int) -> tuple[Any, str]:
    words = [sys.executable, "-c", SERVE, str(run.path), str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


def many_reviewers(run: db.Run, seconds: float, reviewers: int = 4) -> str:
    """Latency of decisions while four people review at once."""
    before = count(run.path)
    server, url = served(run, 9100)
    began = time.perf_counter()
    first = Reviewer(url, "first")
    first.ask("state")
    item = first.ask("queue?queue=hunt&count=30")["items"][0]
    first.ask(f"example/{item['row']}")
    first.ask(f"image/{item['row']}?side=1024")
    page = time.perf_counter() - began
    took: list[float] = []
    sent: list[tuple[int, int, str]] = []

    def review(number: int) -> None:
        who, generator = Reviewer(url, f"r{number}"), np.random.default_rng(number)
        queue = ("hunt", "learn", "certify", "hunt")[number % 4]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if queue == "certify":
                items = [who.ask("certify")["next"]]
            else:
                items = who.ask(f"queue?queue={queue}&count=30&start={30 * number}")["items"]
            for each in items[:10]:
                who.ask(f"example/{each['row']}")
                who.ask(f"image/{each['row']}?side=1024")
                act = "right" if generator.random() < 0.5 else "drop"
                said = {"row": each["row"], "act": act, "queue": queue}
                start = time.perf_counter()
                kept = who.ask("decide", said)
                took.append(time.perf_counter() - start)
                sent.append((kept["number"], each["row"], act))
                time.sleep(float(generator.exponential(0.3)))

    everyone = [threading.Thread(target=review, args=(number,)) for number in range(reviewers)]
    for each in everyone:
        each.start()
    for each in everyone:
        each.join()
    status = Path(f"/proc/{server.pid}/status").read_text()
    memory, anonymous = (
        int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")
    )
    bare = int(subprocess.run([sys.executable, "-c", BARE], capture_output=True, check=True).stdout)
    server.send_signal(signal.SIGKILL)
    server.wait()
    kept = Decisions(run.path / FILE, run.data)
    there = {number: (number, each.row, each.act) for number, each in kept.every.items()}
    lost = sum(there.get(each[0]) != each for each in sent)
    doubled = len(there) - before - len({each[0] for each in sent})
    kept.close()
    times = np.sort(took)
    return (
        f"50,000 examples, 100 classes: the first page (state, queue, evidence, picture) in "
        f"{page:.2f} s. {reviewers} reviewers in three queues for {seconds:.0f} s made {len(sent):,} "
        f"decisions; one was acknowledged in {1000 * np.median(times):.1f} ms (median), "
        f"{1000 * times[int(0.99 * len(times))]:.1f} ms (99th percentile), at most "
        f"{1000 * times[-1]:.1f} ms. Lost: {lost}; doubled: {doubled}. Memory of the server: "
        f"{memory:.0f} MB, of which {anonymous:.0f} MB are not mapped from files; a program that "
        f"imports torch, and does nothing, has {bare / 1024:.0f} MB."
    )


def killed(run: db.Run, times: int = 50) -> str:
    """Kill the server at random moments while decisions come in."""
    generator, acknowledged, before = np.random.default_rng(1), {}, count(run.path)
    for turn in range(times):
        server, url = served(run, 9200 + turn)
        who = Reviewer(url, "killed")
        end = time.monotonic() + float(generator.uniform(0.02, 0.5))
        timer = threading.Timer(end - time.monotonic(), os.kill, (server.pid, signal.SIGKILL))
        timer.start()
        try:
            while True:
                row = int(generator.integers(len(run.data)))
                acknowledged[who.ask("decide", {"row": row, "act": "right"})["number"]] = row
        except (OSError, http.client.HTTPException):
            server.wait()
    kept = Decisions(run.path / FILE, run.data)
    there = {number: each.row for number, each in kept.every.items() if number > before}
    kept.close()
    lost = sum(there.get(number) != row for number, row in acknowledged.items())
    return (
        f"The server was killed {times} times at random moments, {len(acknowledged):,} decisions "
        f"had been acknowledged: {lost} are lost; {len(there) - len(acknowledged):,} were kept whose "
        "acknowledgement did not arrive."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=["learn", "many", "killed", "report", "digits"]
    )
    parser.add_argument("--full", action="store_true", help="ten minutes of four reviewers")
    asked = parser.parse_args()
    if "learn" in asked.only:
        results.write("Review: the learned order", order_learned())
    if "many" in asked.only:
        found = many_reviewers(large(), 600 if asked.full else 60)
        results.write("Review: four reviewers", found)
    if "report" in asked.only:
        results.write("Report of 50,000 examples", reported(large()))
    if "digits" in asked.only:
        with tempfile.TemporaryDirectory() as home:
            results.write("Report of digits", small(Path(home)))
    if "killed" in asked.only:
        results.write("Review: killed", killed(large()))


if __name__ == "__main__":
    main()
