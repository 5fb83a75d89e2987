"""What holds of any row: it comes back from its line as it was, and hashes tell names apart."""

from hypothesis import given
from hypothesis import strategies as st
from strategies import slice_rows

from medcyclegan.manifest import row_from_json, rows_to_text
from medcyclegan.provenance import keyed_hash

names = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4)


@given(rows=slice_rows("t1"))
def test_rows_come_back_as_they_were(rows):
    lines = rows_to_text(reversed(rows)).splitlines()
    assert [row_from_json(line) for line in lines] == rows


@given(one=names, other=names)
def test_names_that_differ_have_hashes_that_differ(one, other):
    key = bytes(32)
    assert (keyed_hash(key, *one) == keyed_hash(key, *other)) == (one == other)
    assert keyed_hash(key, *one) != keyed_hash(b"\1" * 32, *one)
