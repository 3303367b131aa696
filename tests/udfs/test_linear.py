import pytest
import torch
from lakevec.udfs.linear import ROW_LEVELS, WEIGHT_LEVELS, Int8Linear, Linear

OUTPUTS, INPUTS = 48, 96


@pytest.fixture
def weight_and_bias():
    torch.manual_seed(0)
    return torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)


@pytest.fixture
def rows():
    torch.manual_seed(1)
    return torch.randn(50, INPUTS)


def error(made: torch.Tensor, exact: torch.Tensor) -> float:
    return float((made - exact).norm() / exact.norm())


def test_whole_numbers_give_nearly_the_same_map(weight_and_bias, rows):
    made, exact = Int8Linear(*weight_and_bias)(rows), Linear(*weight_and_bias)(rows)
    assert made.dtype == torch.float32
    assert 0 < error(made, exact) < 0.02


def test_a_row_does_not_depend_on_the_others(weight_and_bias, rows):
    linear, large = Int8Linear(*weight_and_bias), 1_000 * torch.ones(1, INPUTS)
    beside = linear(torch.cat([rows, large]))
    torch.testing.assert_close(beside[:-1], linear(rows), rtol=1e-6, atol=1e-6)
    assert error(beside[:-1], Linear(*weight_and_bias)(rows)) < 0.02


def test_small_and_large_rows_are_as_exact(weight_and_bias, rows):
    weight, no_bias = weight_and_bias[0], torch.zeros(OUTPUTS)
    linear = Int8Linear(weight, no_bias)
    # Powers of two are exact.
    torch.testing.assert_close(linear(rows * 2.0**-20) * 2.0**20, linear(rows * 2.0**20) / 2.0**20)


def test_extreme_numbers_overflow_nowhere():
    # All products but one are at their greatest: the sums of two of them must fit into 16 bits on a CPU without VNNI.
    assert 2 * ROW_LEVELS * WEIGHT_LEVELS < 2**15
    weight, rows = torch.ones(OUTPUTS, INPUTS), torch.ones(3, INPUTS)
    rows[:, 0] = 0
    made = Int8Linear(weight, torch.zeros(OUTPUTS))(rows)
    torch.testing.assert_close(made, torch.full((3, OUTPUTS), INPUTS - 1.0))


def test_a_row_of_equal_numbers_stays_what_it_is(weight_and_bias):
    weight, bias = weight_and_bias
    weight[3] = 0
    for number in (0.0, 2.5, -7.0):
        rows = torch.full((2, INPUTS), number)
        made, exact = Int8Linear(weight, bias)(rows), Linear(weight, bias)(rows)
        torch.testing.assert_close(made[:, 3], bias[3].expand(2))
        assert error(made, exact) < 0.02


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_stays_none(weight_and_bias, rows, number):
    linear = Int8Linear(*weight_and_bias)
    expected = linear(rows)
    rows[7, 5] = number
    made = linear(rows)
    assert not torch.isfinite(made[7]).any()
    rest = [place for place in range(len(rows)) if place != 7]
    torch.testing.assert_close(made[rest], expected[rest])
