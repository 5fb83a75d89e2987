"""Signals follow the physics: closed forms, a brute-force MPRAGE, and what radiologists see in each contrast."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from medcyclegan.synthesis import CONTRASTS, TISSUES
from medcyclegan.synthesis.acquisition import DARKEST_FLUID, draw_acquisition, keep_above_noise
from medcyclegan.synthesis.contrasts import _USUAL, draw_physics, draw_protocol, tissue_values
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.sequences import Sequence, draw_sequence, signal
from medcyclegan.synthesis.tissues import tissue_index

ONE = torch.ones(1, dtype=torch.float64)


def value(sequence, t1, t2=1e9, t2_prime=1e9):
    return float(signal(sequence, ONE, ONE * t1, ONE * t2, t2_prime_ms=t2_prime))


def test_a_spin_echo_recovers_with_t1_and_decays_with_t2():
    sequence = Sequence("spin echo", 600.0, 15.0)
    assert value(sequence, 700.0, 80.0) == pytest.approx((1 - math.exp(-600 / 700)) * math.exp(-15 / 80))


def test_a_gradient_echo_decays_with_t2_star_and_has_ernsts_maximum():
    angle = math.degrees(math.acos(math.exp(-20 / 800)))
    at = {a: value(Sequence("gradient echo", 20.0, 4.0, 0.0, a), 800.0) for a in (angle - 4, angle, angle + 4)}
    assert max(at, key=at.get) == angle
    decayed = value(Sequence("gradient echo", 20.0, 4.0, 0.0, angle), 800.0, 60.0, 40.0)
    assert decayed == pytest.approx(at[angle] * math.exp(-4 / 60 - 4 / 40))


def test_an_inversion_recovery_nulls_fluid_at_its_inversion_time():
    for seed in range(20):
        sequence = draw_sequence(Draws(seed), "flair")
        fluid, brain = value(sequence, 4150.0, 1700.0), value(sequence, 1000.0, 80.0)
        assert sequence.ti_ms < sequence.tr_ms
        assert fluid < 0.17, seed
        assert brain > 0.1, seed


def test_mprage_is_the_steady_state_of_its_pulses():
    sequence = Sequence("mprage", 2000.0, 0.0, 900.0, 9.0, 100, 8.0)
    for t1 in (350.0, 900.0, 4000.0):
        m, seen = 1.0, 0.0
        for _ in range(12):
            m = 1 - (1 + 0.96 * m) * math.exp(-(900.0 - 50 * 8.0) / t1)
            for pulse in range(100):
                if pulse == 50:
                    seen = abs(m * math.sin(math.radians(9.0)))
                m = 1 - (1 - m * math.cos(math.radians(9.0))) * math.exp(-8.0 / t1)
            m = 1 - (1 - m) * math.exp(-(2000.0 - 900.0 + 50 * 8.0 - 100 * 8.0) / t1)
        assert value(sequence, t1) == pytest.approx(seen, rel=1e-6)


def ratios(contrast, name, seeds=range(60)):
    found = []
    for seed in seeds:
        physics = draw_physics(Draws(seed, "physics"))
        values, _ = tissue_values(draw_protocol(Draws(seed, contrast), contrast, physics), physics)
        found.append(float(values[tissue_index(name)] / values[tissue_index("white matter")]))
    return np.array(found)


def test_t1_fluid_is_dark_and_never_as_black_as_air():
    fluid, grey = (ratios("t1", name, range(200)) for name in ("cerebrospinal fluid", "grey matter"))
    assert DARKEST_FLUID <= fluid.min() < 0.15 < 0.55 < fluid.max() <= 0.66
    assert (fluid / grey).max() < 0.8
    assert 0.45 <= grey.min() < 0.58, "as in MPRAGE"
    assert 0.95 < grey.max() <= 1.03, "as in spin echoes"


def test_plaques_and_oedema_are_not_bright_in_t1():
    for name in ("plaque", "white matter lesion", "oedema", "infarct"):
        assert np.quantile(ratios("t1", name), 0.9) < 1.0, name


def test_t2_fluid_is_bright_grey_matter_brighter_than_white_and_muscle_dark():
    assert ratios("t2", "cerebrospinal fluid").min() > 1.6
    assert ratios("t2", "grey matter").min() > 1.0
    assert np.median(ratios("t2", "muscle")) < 0.6
    assert np.mean(ratios("t2", "fat") > 1.0) > 0.6, "bright in echo trains, but for fat suppression"


def test_cortical_bone_is_dark_but_for_the_marrow_in_it():
    for contrast in ("t1", "t2", "flair"):
        bone = ratios(contrast, "cortical bone")
        assert np.quantile(bone, 0.1) < 0.01 < np.median(bone) < 0.25, contrast
        physics = dataclasses.replace(draw_physics(Draws(0, "physics")), marrow_in_bone=0.0)
        values, _ = tissue_values(draw_protocol(Draws(0, contrast), contrast, physics), physics)
        assert float(values[tissue_index("cortical bone")]) < 0.02 * float(values[tissue_index("white matter")])


def test_wide_draws_reach_further_and_stay_within_what_is_usual():
    for contrast in ("t1", "t2", "pd", "flair"):
        found = {False: [], True: []}
        for seed in range(150):
            physics = draw_physics(Draws(seed, "physics"))
            protocol = draw_protocol(Draws(seed, contrast), contrast, physics)
            values, _ = tissue_values(protocol, physics)
            caudate, accumbens, white = (
                float(values[tissue_index(name)]) for name in ("caudate", "accumbens", "white matter")
            )
            found[protocol.wide].append(math.log(caudate / accumbens))
            for name, (low, high) in _USUAL[contrast].items():
                assert low <= float(values[tissue_index(name)]) / white <= high, (contrast, seed, name)
        assert 25 < len(found[True]) < 75
        assert np.std(found[True]) > 1.4 * np.std(found[False]), contrast


@pytest.mark.parametrize(("fluid", "floor"), [(0.09, 3.0), (0.3, 0.0), (0.6, 1.5)])
def test_gamma_and_noise_never_hide_fluid_in_the_background(fluid, floor):
    for seed in range(30):
        drawn = dataclasses.replace(draw_acquisition(Draws(seed), "t1", seed), floor=floor)
        kept = keep_above_noise(drawn, fluid)
        background = max(np.sqrt(np.pi / 2), floor) * kept.noise
        assert fluid**kept.gamma - background >= 3 * kept.noise - 1e-9
        assert fluid**kept.gamma >= min(fluid, DARKEST_FLUID) - 1e-9
        if fluid**drawn.gamma > max(DARKEST_FLUID, 6.5 * drawn.noise):
            assert kept == drawn, "what is visible is left alone"


def test_flair_shows_plaques_brighter_than_all_of_the_brain_and_fluid_dark():
    assert np.quantile(ratios("flair", "plaque") / ratios("flair", "grey matter"), 0.05) > 1.0
    assert np.median(ratios("flair", "cerebrospinal fluid")) < 0.4


def test_subacute_blood_is_bright_in_t1_and_acute_blood_dark_in_t2():
    assert np.quantile(ratios("t1", "subacute haemorrhage"), 0.1) > 1.0
    assert np.quantile(ratios("t2", "acute haemorrhage"), 0.9) < 0.8


def test_ct_numbers_are_those_of_the_table_within_their_spread():
    physics = [draw_physics(Draws(seed)) for seed in range(60)]
    protocol = draw_protocol(Draws(0), "ct", physics[0])
    for number, tissue in enumerate(TISSUES):
        values = [float(tissue_values(protocol, p)[0][number]) - 1000 for p in physics]
        assert np.mean(values) == pytest.approx(tissue.hu, abs=0.5 * tissue.hu_spread + 0.01)
        assert np.std(values) <= 1.3 * tissue.hu_spread + 0.01
    assert float(tissue_values(protocol, physics[0])[0][0]) == 0.0, "air"


def test_every_value_is_finite_and_no_signal_negative():
    for seed in range(40):
        physics = draw_physics(Draws(seed, "physics"))
        for contrast in CONTRASTS:
            values, slopes = tissue_values(draw_protocol(Draws(seed, contrast), contrast, physics), physics)
            assert torch.isfinite(values).all()
            assert torch.isfinite(slopes).all()
            assert (values >= 0).all()


def test_tissues_of_one_family_look_alike_in_one_patient():
    difference = np.log(ratios("t1", "cerebellar grey matter") / ratios("t1", "grey matter"))
    assert np.std(difference) < 0.06
    assert np.std(np.log(ratios("t1", "grey matter"))) > 0.08
