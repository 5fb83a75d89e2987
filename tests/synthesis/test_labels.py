"""What label numbers mean: the built-in table, and tables of the user's own."""

import pytest

from medcyclegan.errors import ConfigError
from medcyclegan.synthesis import FREESURFER, TISSUES, read_labels_table
from medcyclegan.synthesis.tissues import BRAIN, COMPOSITES, LESIONS

NAMES = [tissue.name for tissue in TISSUES]


def test_the_built_in_table_knows_the_labels_of_synthseg_and_names_known_tissues():
    known = {0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 25, 26, 28, 30, 41, 42, 43, 44, 46, 47, 49}
    known |= {50, 51, 52, 53, 54, 57, 58, 60, 62, 72, 85, 136, 137, 163, 164}
    known |= {502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530}
    assert known <= FREESURFER.keys()
    assert set(FREESURFER.values()) <= set(NAMES)
    assert FREESURFER[2] == FREESURFER[41] == "white matter"
    assert FREESURFER[515] == "cortical bone"
    assert FREESURFER[506] == "eyeball"


def test_tissues_have_names_of_their_own_and_groups_name_known_ones():
    assert len(set(NAMES)) == len(NAMES)
    assert {*BRAIN, *COMPOSITES, *LESIONS} <= set(NAMES)
    assert not set(BRAIN) & set(LESIONS)


def test_a_table_is_read_regardless_of_capitals_and_spaces(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("label,tissue,note\n 0 ,air,\n7, Grey  Matter,cortex\n9,white matter,\n", "utf-8")
    assert read_labels_table(file) == {0: "air", 7: "grey matter", 9: "white matter"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,tissue\n1,air\n", "no column label"),
        ("label,tissue\n1.5,air\n", "line 2: the label '1.5' is not a whole number"),
        ("label,tissue\n1,gray matter\n", "unknown tissue 'gray matter': did you mean 'grey matter'"),
        ("label,tissue\n1,xyzzy\n", "unknown tissue 'xyzzy': the tissues are air, white matter"),
        ("label,tissue\n1,air\n1,fat\n", "label 1 is air and fat"),
        ("label,tissue\n", "contains no label"),
    ],
)
def test_a_wrong_table_is_refused_in_a_line(tmp_path, text, message):
    file = tmp_path / "table.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message):
        read_labels_table(file)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the table of labels cannot be read"):
        read_labels_table(tmp_path / "none.csv")
