"""The pages in a browser: keys alone settle a hundred, and nothing is in the way of a screen reader."""

import os
import shutil

import numpy as np
import pytest
from conftest import TINY, blobs

from datablame import Dataset, verbs
from datablame.decisions import FILE, Decisions

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    run = verbs.train(blobs(180, wrong=(7, 20, 33)), recipe=TINY, out=out, holdout=0)
    verbs.judge(run, verbs.score(run))
    verbs.report(run)
    return run


@pytest.fixture
def review(judged):
    found = verbs.review(judged, port=9600 + os.getpid() % 300, wait=False)
    yield found
    found.close()


def opened(browser, url, width=1280, dark=False):
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: line.type == "error" and faults.append(line.text))
    page.goto(url)
    return page, faults


def violations(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found]


def ready(page):
    page.wait_for_selector("body[data-ready=yes]")
    until(page, "document.querySelector('#picture').complete")


def until(page, expression, arg=None):
    """Playwright's own waiting evaluates strings in the page, which its policy forbids."""
    for _ in range(300):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} did not come true: {page.inner_text('body')[:500]}")


def settled(page):
    return int(page.inner_text("#progress").split(" of ")[0].replace(",", ""))


def test_keys_alone_settle_a_hundred(browser, review, judged):
    page, faults = opened(browser, review.url)
    ready(page)
    assert page.evaluate("location.hash") == ""  # the token is not left in the address
    page.focus("#by")
    page.keyboard.type("rd1zu")  # typing decides nothing
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    assert settled(page) == 0
    keys = ["Enter", "r", "d", "u", "w", "1", "2", "Enter", "Enter", "Enter"]
    for turn in range(100):
        page.wait_for_selector("body[data-shown]")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press(keys[turn % len(keys)])
    until(page, "document.querySelector('#progress').textContent.startsWith('100 ')")
    name = page.inner_text("#name")
    page.keyboard.press("ArrowRight")
    until(page, "before => document.querySelector('#name').textContent !== before", arg=name)
    page.keyboard.press("ArrowLeft")
    until(page, "before => document.querySelector('#name').textContent === before", arg=name)
    page.keyboard.press("z")
    until(page, "document.querySelector('#progress').textContent.startsWith('99 ')")
    page.wait_for_timeout(500)  # the queue is loaded anew
    page.wait_for_selector("body[data-shown]")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("r")  # decides nothing while the list is open
    page.keyboard.press("Escape")
    assert settled(page) == 99
    page.keyboard.press("/")
    page.keyboard.type("right")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#progress').textContent.startsWith('100 ')")
    assert faults == []
    page.close()
    kept = Decisions(judged.path / FILE, judged.data)
    assert len(kept.settled()) == 100
    assert {each.by for each in kept.standing()} == {"rd1zu"}
    assert len({each.row for each in kept.standing()}) == 100
    kept.close()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_nothing_is_in_the_way_of_a_screen_reader(browser, review, width, dark):
    page, faults = opened(browser, review.url, width, dark)
    ready(page)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("g")
    page.wait_for_selector("#tiles button")
    assert violations(page) == []
    page.keyboard.press("g")
    page.keyboard.press("?")
    assert violations(page) == []
    assert faults == []
    page.close()


def test_a_sheet_settles_one_cell_at_once(browser, review, judged):
    page, faults = opened(browser, review.url)
    ready(page)
    before = settled(page)
    page.keyboard.press("g")
    page.wait_for_selector("#tiles button")
    cell = (page.input_value("#given"), page.input_value("#proposed"))
    assert cell[0] in judged.data.classes
    count = page.locator("#tiles button").count()
    page.locator("#tiles button").first.click()  # not this one
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    want = before + count - 1
    until(
        page,
        "want => document.querySelector('#progress').textContent.startsWith(want + ' ')",
        arg=want,
    )
    assert faults == []
    page.close()


def test_certify_and_finish_on_the_page(browser, review, judged):
    page, faults = opened(browser, review.url)
    ready(page)
    page.select_option("#queue", "certify")
    page.wait_for_selector("#certificate:not([hidden])")
    for count in range(1, 4):
        page.wait_for_selector("body[data-shown]")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("r")
        until(
            page,
            "n => document.querySelector('#certificate').textContent.startsWith(n + ' answers')",
            arg=count,
        )
    assert "labels are wrong, by 3 answers" in page.inner_text("#certificate")
    page.click("#finish")
    page.wait_for_selector("text=The review is closed")
    assert review.ended.wait(5)
    assert faults == []
    page.close()


def test_the_report_is_read_by_a_screen_reader_too(browser, judged):
    for width, dark in ((1280, False), (390, True)):
        page, faults = opened(browser, (judged.path / "report.html").as_uri(), width, dark)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#worst-tiles figure:not([hidden]) a").first.click()
        assert page.is_visible("#image")
        assert violations(page) == []
        assert faults == []
        page.close()


def test_the_report_opens_filters_sorts_and_moves_the_cut(browser, judged):
    verbs.report(judged)  # people have decided since
    page, faults = opened(browser, (judged.path / "report.html").as_uri())
    tiles = page.locator("#worst-tiles figure:not([hidden])")
    every = tiles.count()
    assert every == len(judged.verdict.suspects)
    tiles.first.locator("a").click()
    worst = int(judged.verdict.suspects[0])
    assert page.inner_text("#image .name") == judged.data.name(worst)
    assert "Models that never saw it say" in page.inner_text("#image ul")
    assert page.locator("#image .near img").count() == 8
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#image .name") == judged.data.name(int(judged.verdict.suspects[1]))
    page.keyboard.press("Escape")
    assert not page.is_visible("#image")
    cell = page.locator(".matrix button").first
    count = int(cell.inner_text())
    cell.click()
    assert tiles.count() == count
    page.click("#every")
    assert tiles.count() == every
    given = str(int(judged.data.labels[worst]))
    page.select_option("#by-class", given)
    assert {tile.get_attribute("data-given") for tile in tiles.all()} == {given}
    rows = page.locator("table.sorted tbody tr")
    page.locator("table.sorted th button").nth(1).click()
    sizes = [int(row.locator("td").nth(1).inner_text()) for row in rows.all()]
    assert sizes == sorted(sizes, reverse=True)
    page.locator("table.sorted th button").nth(0).click()
    page.locator("table.sorted th button").nth(0).click()
    names = [row.locator("td").nth(0).inner_text() for row in rows.all()]
    assert names == sorted(names)
    before = page.inner_text("#cut-said")
    assert f"The {every} most suspect" in before or "most suspect" in before
    page.evaluate(
        "const e = document.querySelector('#cut'); e.value = e.max; e.dispatchEvent(new Event('input'))"
    )
    assert "The 180 most suspect" in page.inner_text("#cut-said")
    assert "100 % of all wrong labels" in page.inner_text("#cut-said")
    assert faults == []
    page.close()


def test_a_line_on_the_map_lists_what_lies_in_it(browser, judged):
    page, faults = opened(browser, (judged.path / "report.html").as_uri())
    canvas = page.locator(".lasso canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for right, down in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"])
    page.mouse.up()
    names = page.input_value(".lasso textarea").splitlines()
    assert len(names) == len(set(names))
    assert set(names) <= set(judged.data.names.to_pylist())
    assert len(names) > 80
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert faults == []
    page.close()


def test_copies_and_what_is_behind_on_the_page(browser, tmp_path):
    data = blobs(60, wrong=(7,))
    images, labels = data.pixels.array, data.labels.numpy().copy()
    some = [0, 1, 2, 0]
    again = labels[some].copy()
    again[0] = (again[0] + 1) % 3
    every = np.concatenate([images, images[some]])
    data = Dataset.from_arrays(every, np.concatenate([labels, again]), data.classes)
    recipe = TINY.but(head="memory_wrap,size=12", folds=0, checkpoints=0)
    run = verbs.train(data, recipe=recipe, out=tmp_path, holdout=0)
    verbs.judge(run, verbs.score(run, "aum"))
    verbs.index(run, block=8)
    review = verbs.review(run, port=9600 + os.getpid() % 300, wait=False)
    page, faults = opened(browser, review.url)
    ready(page)
    page.select_option("#queue", "copies")
    until(page, "document.body.dataset.shown === '0'")
    assert "Copies of it are labelled" in page.inner_text("#reasons")
    page.click("#behind summary")
    until(page, "document.querySelectorAll('#behind-it .near img').length > 3")
    until(page, "document.querySelector('#behind-it .heat')?.naturalWidth > 100")
    assert "pushed towards" in page.inner_text("#behind-it")
    assert "examples: they get the same answer" in page.inner_text("#behind-it")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("g")
    until(page, "document.querySelectorAll('#tiles button').length === 3")
    assert page.inner_text("#cell") == "3 copies of one picture are open"
    assert violations(page) == []
    page.keyboard.press("k")  # all but the first
    until(page, "document.querySelectorAll('#tiles button').length === 1")
    page.keyboard.press("r")
    until(page, "document.querySelectorAll('#tiles button').length === 2")
    page.keyboard.press("/")
    page.keyboard.type(data.classes[2])
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#progress').textContent.startsWith('5 of')")
    kept = Decisions(run.path / FILE, run.data).settled()
    assert {row: each.act for row, each in kept.items()} == {
        0: "right", 60: "drop", 63: "drop", 1: "wrong", 61: "wrong"}  # fmt: skip
    assert kept[1].label == 2
    page.select_option("#queue", "hunt")  # the sheet goes on with a cell
    until(page, "document.querySelector('#cell').textContent.startsWith('given as')")
    assert faults == []
    page.close()
    review.close()
