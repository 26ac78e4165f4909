import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapid_inr.evaluation.rate_distortion import CurvePoint, envelope, front, point_at, psnr_at


def points(*pairs):
    return [CurvePoint(bpp, psnr_db) for bpp, psnr_db in pairs]


def test_the_front_leaves_out_what_another_point_beats_in_both():
    found = front(points((2, 30), (1, 25), (3, 29), (1, 24), (2, 28), (4, 31)))
    assert [(p.bpp, p.psnr_db) for p in found] == [(1, 25), (2, 30), (4, 31)]


def test_a_rate_between_two_points_is_interpolated_over_its_logarithm():
    curve = points((1, 20), (4, 30), (16, 50))
    assert psnr_at(curve, 2) == pytest.approx(25)
    assert psnr_at(curve, 8) == pytest.approx(40)
    assert psnr_at(list(reversed(curve)), 2) == pytest.approx(25)


def test_the_points_themselves_are_met_and_nothing_beyond_them_is_guessed():
    curve = points((1, 20), (4, 30))
    assert (psnr_at(curve, 1), psnr_at(curve, 4)) == (20, 30)
    assert psnr_at(curve, 0.99) is None
    assert psnr_at(curve, 4.01) is None
    assert psnr_at(points((2, 25)), 2) == 25
    assert psnr_at(points((2, 25)), 2.1) is None
    assert psnr_at([], 1) is None


def test_a_point_that_is_beaten_does_not_extend_a_curve():
    assert psnr_at(points((1, 20), (2, 30), (3, 29)), 2.5) is None


def test_between_two_branches_nothing_is_interpolated_and_the_better_counts():
    smooth = [CurvePoint(1, 20, branch="4:2:0"), CurvePoint(4, 26, branch="4:2:0")]
    sharp = [CurvePoint(2, 21, branch="4:4:4"), CurvePoint(8, 41, branch="4:4:4")]
    assert psnr_at(smooth + sharp, 2) == pytest.approx(23)
    assert psnr_at(smooth + sharp, 4) == pytest.approx(31)
    assert psnr_at(smooth + sharp, 8) == 41
    assert envelope(smooth + sharp) == [(1, 20), (2, pytest.approx(23)), (4, pytest.approx(31)), (8, 41)]


def test_an_envelope_only_rises():
    between = 20 + 5 * math.log(2) / math.log(3)
    assert envelope(points((1, 20), (2, 19), (3, 25))) == [(1, 20), (2, pytest.approx(between)), (3, 25)]
    assert envelope(points((1, 20), (2, 19))) == [(1, 20)]


@given(st.lists(st.tuples(st.floats(0.1, 24), st.floats(10, 60)), min_size=2, max_size=8), st.floats(0.1, 24))
def test_an_interpolated_psnr_lies_between_those_of_the_front(pairs, rate):
    psnr, best = psnr_at(points(*pairs), rate), front(points(*pairs))
    if psnr is None:
        assert rate < best[0].bpp or rate > best[-1].bpp
    else:
        assert best[0].psnr_db - 1e-9 <= psnr <= best[-1].psnr_db + 1e-9
        assert math.isfinite(psnr)


def test_ssim_and_times_are_interpolated_with_the_psnr_and_unknown_where_an_end_lacks_them():
    left, right = CurvePoint(1, 20, ssim=0.5, encode_ms=4), CurvePoint(4, 30, ssim=0.7, encode_ms=8, decode_ms=1)
    assert point_at([left, right], 2) == CurvePoint(2, pytest.approx(25), ssim=pytest.approx(0.6), encode_ms=pytest.approx(6))
    assert point_at([left, right], 4) is right
