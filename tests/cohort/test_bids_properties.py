"""Properties for any name: BIDS entities are preserved, and outputs are in their folder with plain names."""

import re
import string

from hypothesis import given
from hypothesis import strategies as st

from medcyclegan.cohort import derivative_path, parse_bids_name

LETTERS = string.ascii_letters
labels = st.text(LETTERS + string.digits + "+", min_size=1, max_size=6)
entities = st.dictionaries(st.sampled_from(["sub", "ses", "acq", "desc", "Run"]), labels, min_size=1, max_size=5)
suffixes = st.text(LETTERS + string.digits, min_size=1, max_size=6)
domains = st.builds(str.__add__, st.sampled_from("aT9"), st.text(LETTERS + string.digits + "._-", max_size=12))
folders = st.lists(st.text(max_size=8), max_size=3).map("/".join)


@given(found=entities, suffix=suffixes, folder=folders)
def test_entities_come_back_from_a_name(found, suffix, folder):
    name = "_".join([*(f"{key}-{value}" for key, value in found.items()), suffix])
    assert parse_bids_name(f"{folder}/{name}") == (found, suffix)


@given(name=st.text(max_size=60), domain=domains)
def test_any_output_has_a_plain_name_below_its_folder(name, domain):
    path = derivative_path(name, domain)
    assert not path.is_absolute()
    assert all(re.fullmatch(r"[a-zA-Z0-9+_.-]+", part) and part.strip(".") for part in path.parts)
    assert path.name.endswith(".nii.gz")
    entities_out, _ = parse_bids_name(path.name.removesuffix(".nii.gz"))
    assert entities_out["desc"].endswith("synthetic")
    assert path.parts[0] == f"sub-{entities_out['sub']}"


@given(one=entities, other=entities, suffix=suffixes)
def test_other_entities_give_another_output(one, other, suffix):
    names = [
        "_".join(["sub-1", *(f"{k}-{v}" for k, v in found.items() if k != "sub"), suffix]) for found in (one, other)
    ]
    same = parse_bids_name(names[0]) == parse_bids_name(names[1])
    orders = [[key for key in found if key not in ("sub", "desc")] for found in (one, other)]
    assert (derivative_path(names[0], "t2") == derivative_path(names[1], "t2")) == (same and orders[0] == orders[1])
