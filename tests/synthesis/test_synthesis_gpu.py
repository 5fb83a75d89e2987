"""On a CUDA device: the same patients as on the CPU but for their noise, and many of them."""

import time

import pytest
import torch

from medcyclegan.synthesis import Variation, draw_patient, render_patient

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CONTRASTS = ("t1", "t2", "flair", "ct")


@pytest.mark.parametrize("extracted", [0.0, 1.0])
def test_a_patient_is_the_same_there(head, extracted):
    variation = Variation(spacing_mm=2.0, lesions=1.0, metal=1.0, extracted=extracted)
    patient = draw_patient(3, head, CONTRASTS, variation)
    here, there = (render_patient(patient, head.to(torch.device(device)), clean=True) for device in ("cpu", "cuda"))
    assert float((there.truth.cpu() != here.truth).float().mean()) < 1e-3, "rounding at borders"
    for name in CONTRASTS:
        difference = (there.clean[name].cpu() - here.clean[name]).abs()
        spread = float(here.clean[name].std())
        assert float((difference > 0.02 * spread).float().mean()) < 1e-2, name
        assert there.scans[name].device.type == "cuda"
        assert float(there.scans[name].cpu().std()) == pytest.approx(float(here.scans[name].std()), rel=0.05)


def test_a_seed_gives_the_same_patient_again(head):
    on_device = head.to(torch.device("cuda"))
    patient = draw_patient(4, head, ("t1", "ct"), Variation(spacing_mm=2.0))
    first, second = (render_patient(patient, on_device) for _ in range(2))
    assert all(torch.equal(first.scans[name], second.scans[name]) for name in ("t1", "ct"))


def test_a_patient_of_1_mm_takes_a_fraction_of_a_second(head):
    on_device = head.to(torch.device("cuda"))
    patients = [draw_patient(seed, head, ("t1", "t2"), Variation(spacing_mm=1.0)) for seed in range(6)]
    render_patient(patients[0], on_device, truth=False)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for patient in patients[1:]:
        render_patient(patient, on_device, truth=False)
    torch.cuda.synchronize()
    assert (time.perf_counter() - started) / 5 < 1.0
