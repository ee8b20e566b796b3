"""The simulation of `scale_model.py`, where its answer is known."""

import numpy as np
import pytest

pytest.importorskip("distributed")

import scale_model


def test_workers_that_take_tasks_from_a_queue():
    assert scale_model.queued(np.ones(10), 2).max() == 5
    assert scale_model.queued(np.array([4.0, 1, 1, 1, 1]), 2).max() == 4
    assert scale_model.allotted(np.array([4.0, 1, 1, 1, 1]), 2) == 6


def test_a_worker_that_is_lost_has_its_work_done_by_the_others():
    # 2 workers do 3 of 10 tasks each; one is lost in its fourth: 4 are left, and 3 are done again, by the other one
    assert scale_model.queued(np.ones(10), 2, lost_at=3.5).max() == 3 + 7


def test_a_tree_that_merges_as_results_come():
    assert scale_model.merged(np.zeros(1), 1.0) == 0
    assert scale_model.merged(np.zeros(16), 1.0) == 1
    assert scale_model.merged(np.zeros(17), 1.0) == 2
    assert scale_model.merged(np.arange(256.0), 0.5) == 256
