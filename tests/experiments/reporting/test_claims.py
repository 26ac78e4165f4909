"""The paper's numbers are data with a source each, and what is within a claim is decided by them alone."""

import pytest

from experiments.reporting.cells import Gap, Measured
from experiments.reporting.claims import MARKS, ClaimRow, PaperNumber, paper_table, read_paper

PAPER = read_paper()


def test_the_claims_are_those_of_the_paper():
    claims = {key: (n.text, n.at_most, n.at_least, tuple(n.known)) for key, n in PAPER.items() if n.is_claim}
    assert claims == {
        "memory_rgb_pct": ("about 5%", 5, None, ("abs",)),
        "speedup_pytorch": ("up to 6x", None, 6, ("abs",)),
        "speedup_dali": ("up to 1.2x", None, 1.2, ("abs", "sum")),
        "accuracy_drop": ("about 2 points", 2, None, ("sum",)),
    }


@pytest.mark.parametrize("number", PAPER.values(), ids=PAPER)
def test_a_number_has_a_source_and_what_is_not_known_has_none(number):
    assert (number.value is None) == (number.text == "—") == (not number.where) == (not number.known)
    assert set(number.known) <= MARKS.keys()
    assert number.value is not None or not number.is_claim


def test_the_recipe_on_record_is_that_of_the_configurations():
    values = {key: number.value for key, number in PAPER.items()}
    assert (values["cifar10_inr"], values["flowers102_inr"], values["mini_imagenet_inr"]) == ("5x13", "10x32", "10x40")
    assert (values["fit_steps"], values["fit_lr"], values["omega"]) == (5000, 5e-4, 30)
    assert (values["cifar10_epochs"], values["cifar10_batch_size"], values["cifar10_lr"]) == (200, 128, 0.01)


@pytest.mark.parametrize(
    ("bounds", "ours", "holds"),
    [
        ({"at_most": 5.0}, 5.0, True), ({"at_most": 5.0}, 5.01, False), ({"at_least": 6.0}, 6.0, True),
        ({"at_least": 6.0}, 5.99, False), ({}, 1.0, None),
    ],
)  # fmt: skip
def test_ours_is_within_a_claim_up_to_its_bound_and_not_beyond(bounds, ours, holds):
    assert PaperNumber("k", "x", 5.0, **bounds).holds(ours) is holds


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (Gap(1.0, 0.2, 3, 1), "yes"), (Gap(1.7, 0.2, 3, 1), "yes, not surely"), (Gap(2.3, 0.2, 3, 1), "no, not surely"),
        (Gap(1.0, None, 1, 1), "yes, not surely"), (Measured(1.9, 0.2, 3, 1), "yes"),
    ],
)  # fmt: skip
def test_a_difference_whose_noise_reaches_the_bound_is_not_sure(ours, verdict):
    assert ClaimRow(PAPER["accuracy_drop"], "points lost", {}, ours, ()).verdict == verdict


def test_there_is_no_difference_from_a_number_that_is_not_known_or_is_none():
    assert PaperNumber("k", "x", None).delta(1.0) is None
    assert PaperNumber("k", "x", "5x13").delta(1.0) is None
    assert PaperNumber("k", "x", 5.0).delta(4.0) == -1.0


def test_the_table_of_the_papers_numbers_says_how_each_is_known():
    table = paper_table(PAPER).set_index("key")
    assert table.loc["speedup_dali"].iloc[1:].tolist() == [
        "up to 1.2x", "abstract; a summary of the paper", "the abstract, a third party's summary of the paper",
    ]  # fmt: skip
    assert table.loc["quantizer"].tolist() == ["formula of the quantizer", "—", "—", "not known"]
