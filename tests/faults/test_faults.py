"""A seeded part of the faults; `python tests/faults/full.py` draws all of them."""

import numpy as np
import pytest

from faults import full
from faults.harness import Base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return Base(tmp_path_factory.mktemp("faults"))


def test_bad_options_are_sentences(base):
    assert full.bad_options(base, part=20).faults == []


def test_bad_sources_are_sentences(base):
    assert full.bad_sources(base, part=2).faults == []


def test_bad_recipes_are_sentences(base):
    assert full.bad_recipes(base).faults == []


def test_mutated_files_of_a_run_are_noticed(base):
    assert full.mutated_run(base, 8, np.random.default_rng(0)).faults == []


def test_mutated_files_from_outside_are_sentences(base):
    assert full.mutated_inputs(base, 24, np.random.default_rng(2)).faults == []


def test_killed_commands_are_run_again(base):
    assert full.killed(base, 8, np.random.default_rng(3)).faults == []


def test_a_full_disk_is_told(base):
    found = full.full_disk(base, (300, 700))
    if found is None:
        pytest.skip("a small disk cannot be mounted here")
    assert found.faults == []
