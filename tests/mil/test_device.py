import pytest
import torch

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.mil.device import FEW_NUMBERS, choose_device, compute_dtype, threads_for


def test_auto_is_a_device_that_is_there():
    device = choose_device("auto")
    assert torch.zeros(1, device=device).sum().item() == 0
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "", "cuda:99"])
def test_an_absent_device_is_one_plain_line(name):
    with pytest.raises(SettingsError, match=r"^[^\n]*device[^\n]*$"):
        choose_device(name)


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        assert choose_device("cuda").type == "cuda"
    else:
        with pytest.raises(SettingsError, match="not available"):
            choose_device("cuda")


def test_precision_is_as_named_or_one_of_two():
    cpu = torch.device("cpu")
    assert compute_dtype("float32", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16
    assert compute_dtype("auto", cpu) in (torch.float32, torch.bfloat16)


def test_precision_without_knowledge_of_the_processor_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # torch before 2.10
    assert compute_dtype("auto", torch.device("cpu")) == torch.float32


def test_few_numbers_are_computed_on_one_thread_and_the_setting_comes_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for numbers, threads in ((FEW_NUMBERS - 1, 1), (FEW_NUMBERS, 2)):
            with threads_for(numbers):
                assert torch.get_num_threads() == threads
            assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), threads_for(1):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
