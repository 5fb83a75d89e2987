"""Properties of rows: parsing a written row restores it, and different names have different hashes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores import make_row
from support.strategies import slice_rows

from medcyclegan.manifest import row_from_json, rows_to_text
from medcyclegan.provenance import keyed_hash

names = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4)


@given(rows=slice_rows("t1"))
def test_rows_come_back_as_they_were(rows):
    lines = rows_to_text(reversed(rows)).splitlines()
    assert [row_from_json(line) for line in lines] == rows


def test_a_public_row_has_no_internal_fields_and_its_content_is_a_sha256():
    row = make_row("t1", 0, (2, 32, 32))
    fields = json.loads(row.to_json())
    assert not {"likeness", "origin"} & fields.keys()
    for content in ("", "../../etc"):
        with pytest.raises(ValueError, match="content must be a SHA-256"):
            row_from_json(json.dumps({**fields, "content": content}))
    del fields["content"]
    with pytest.raises(TypeError, match="content"):
        row_from_json(json.dumps(fields))


@pytest.mark.parametrize("cropped", ["", ',"cropped":null', ',"cropped":1', ',"cropped":"no"'])
def test_whether_slices_are_cropped_must_be_true_or_false(cropped):
    line = make_row("t1", 0, (2, 32, 32)).to_json()
    assert row_from_json(line.replace(',"cropped":false', ',"cropped":true')).cropped is True
    with pytest.raises((KeyError, TypeError), match="cropped"):
        row_from_json(line.replace(',"cropped":false', cropped))


@given(one=names, other=names)
def test_names_that_differ_have_hashes_that_differ(one, other):
    key = bytes(32)
    assert (keyed_hash(key, *one) == keyed_hash(key, *other)) == (one == other)
    assert keyed_hash(key, *one) != keyed_hash(b"\1" * 32, *one)
