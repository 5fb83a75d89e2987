"""Properties of splits: each patient has one split, known splits are kept, and order does not matter."""

from hypothesis import given
from hypothesis import strategies as st

from medcyclegan.slicing.split import FEWEST_TO_SPLIT, assign_splits

patients = st.dictionaries(
    st.sampled_from(["ct", "mr", "t1"]), st.sets(st.integers(0, 40).map(str), min_size=1, max_size=30), min_size=1
)
fractions = st.tuples(st.floats(0.0, 0.4), st.floats(0.0, 0.4))


@given(found=patients, shares=fractions, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_every_patient_has_one_split_and_known_splits_are_kept(found, shares, seed, data):
    everyone = sorted(set().union(*found.values()))
    known = data.draw(st.dictionaries(st.sampled_from(everyone), st.sampled_from(["train", "validation", "test"])))
    splits = assign_splits(found, seed=seed, fractions=shares, known=known)
    assert set(splits) == set(everyone)
    assert {patient: splits[patient] for patient in known} == known
    turned = {domain: set(members) for domain, members in reversed(found.items())}
    assert assign_splits(turned, seed=seed, fractions=shares, known=known) == splits
    assert assign_splits(found, seed=seed, fractions=shares, known=splits) == splits


@given(members=st.sets(st.text(max_size=8), min_size=1, max_size=40), shares=fractions, seed=st.integers(0, 99))
def test_the_requested_number_is_held_out(members, shares, seed):
    splits = list(assign_splits({"t1": members}, seed=seed, fractions=shares, known={}).values())
    validation, test = shares
    for name, share in (("validation", validation), ("test", test)):
        wanted = max(1, round(share * len(members))) if share > 0 and len(members) >= FEWEST_TO_SPLIT else 0
        assert splits.count(name) == wanted
    assert "train" in splits
