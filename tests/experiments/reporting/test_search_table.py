import pandas as pd

from experiments.reporting.search_table import ranked

GOALS = {"psnr_db": "maximize", "rgb_pct": "minimize"}


def trials(*values):
    rows = [(i, *(pair or (None, None)), "finished" if pair else "failed") for i, pair in enumerate(values)]
    return pd.DataFrame(rows, columns=["trial", "psnr_db", "rgb_pct", "status"])


def test_of_two_goals_the_result_is_what_no_other_trial_beats_and_of_equal_ones_the_first():
    some = ranked(trials((30, 20), (31, 25), (29, 22), None, (30, 20), (28, 10)), {"goals": GOALS, "limits": {}})
    assert some["trial"].tolist() == [1, 0, 5, 4, 2, 3]
    assert some["result"].tolist() == ["best", "best", "best", "", "", "failed"]


def test_of_one_goal_within_limits_the_result_is_one_trial():
    search = {"goals": {"psnr_db": "maximize"}, "limits": {"rgb_pct": {"at_most": 20}}}
    some = ranked(trials((30, 20), (31, 25), (29, 10), (30, 19)), search)
    assert some["trial"].tolist() == [0, 3, 2, 1]
    assert some["result"].tolist() == ["best", "", "", "beyond"]
    search["limits"] = {"rgb_pct": {"at_least": 22}}
    assert ranked(trials((30, 20), (31, 25)), search)["result"].tolist() == ["best", "beyond"]
