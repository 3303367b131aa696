"""That every fault still has a place: a renamed function is found with every commit."""

import importlib.util
from pathlib import Path

import pytest

specification = importlib.util.spec_from_file_location("fault_driver", Path(__file__).with_name("driver.py"))
driver = importlib.util.module_from_spec(specification)
specification.loader.exec_module(driver)


@pytest.mark.parametrize("fault", driver.FAULTS)
def test_every_fault_names_a_function_that_is_there(fault):
    _, _, function = driver.place(driver.FAULTS[fault].target)
    assert callable(function)
    assert callable(getattr(driver, driver.FAULTS[fault].does))
