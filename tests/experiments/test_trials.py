from experiments.search_space import read_search
from experiments.trials import Trial, best, keeps_limits, ranked, trials_grid


def two_goals(**changes):
    whole = {
        "name": "front",
        "space": {"width": {"low": 1, "high": 9}},
        "points": {"encode": {"verb": "encode", "over": ["<width>"]}},
        "judge": "encode",
        "goals": {"psnr_db": "maximize", "rgb_pct": "minimize"},
    }
    return read_search(whole | changes)


def trials(*values):
    found = [None if pair is None else {"psnr_db": pair[0], "rgb_pct": pair[1]} for pair in values]
    return [
        Trial(i, {"width": str(i)}, value, "finished" if value else "failed", [f"encode-{i}"]) for i, value in enumerate(found, 1)
    ]


def test_of_two_goals_the_result_is_what_no_other_trial_beats():
    some = trials((30, 20), (31, 25), (29, 22), None, (30, 20), (28, 10))
    assert [trial.number for trial in best(two_goals(), some)] == [2, 1, 6]
    assert [trial.number for trial in ranked(two_goals(), some)] == [2, 1, 6, 5, 3, 4]


def test_of_one_goal_within_limits_the_result_is_one_trial():
    one = two_goals(goals={"psnr_db": "maximize"}, limits={"rgb_pct": {"at_most": 20}})
    some = trials((30, 20), (31, 25), (29, 10), (30, 19))
    assert [trial.number for trial in best(one, some)] == [1]
    assert [keeps_limits(one, trial) for trial in some] == [True, False, True, True]
    rows = trials_grid(one, ranked(one, some)).rows
    assert [row[-1] for row in rows] == ["best", "", "", "beyond"]
    assert [row[0] for row in rows] == ["1", "4", "3", "2"]
