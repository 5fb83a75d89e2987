import logging

import pytest

from medcyclegan.errors import ConfigError, WriteError
from medcyclegan.slicing.split import FEWEST_TO_SPLIT, assign_splits, read_split_file, write_split_file


def split(patients, known=None, seed=0):
    return assign_splits(patients, seed=seed, fractions=(0.1, 0.1), known=known or {})


def test_few_patients_all_train_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert set(split({"t1": {"a", "b", "c", "d"}}).values()) == {"train"}
    assert "fewer than 5" in caplog.text


def test_a_patient_is_on_one_side_only():
    both = {str(i) for i in range(20)}
    result = split({"t1": both, "t2": both | {"x"}})
    assert set(result) == both | {"x"}
    assert list(result.values()).count("test") == 2
    assert list(result.values()).count("validation") == 2


def test_a_small_domain_is_not_robbed_by_a_large_one():
    large = {str(i) for i in range(40)}
    result = split({"a": large, "b": {"1", "2", "3"}})
    assert {result[p] for p in "123"} == {"train"}


def test_separate_cohorts_are_both_held_out():
    result = split({"a": {f"a{i}" for i in range(10)}, "b": {f"b{i}" for i in range(10)}})
    for side in "ab":
        own = [s for p, s in result.items() if p.startswith(side)]
        assert own.count("test") == own.count("validation") == 1


def test_known_splits_are_kept():
    patients = {"a": {str(i) for i in range(10)}}
    first = split(patients)
    more = split({"a": patients["a"] | {"new1", "new2"}}, known=first)
    assert {p: more[p] for p in first} == first


def test_the_choice_depends_on_the_seed_not_on_the_order():
    patients = {"a": {str(i) for i in range(50)}}
    assert split(patients) == split({"a": {str(i) for i in reversed(range(50))}})
    assert split(patients) != split(patients, seed=1)


def test_a_split_file_is_read(tmp_path):
    file = tmp_path / "split.csv"
    file.write_text("\ufeffcase,patient,split\nx.nii.gz,p1,train\ny,p2,val\n")
    assert read_split_file(file) == [("x.nii.gz", "p1", "train"), ("y", "p2", "validation")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,split\nx,train\n", "no column patient"),
        ("case,patient,split\nx,p,later\n", "line 2.*train, validation or test"),
        ("case,patient,split\nx,,train\n", "all three"),
        ("case,patient,split\nx,p,train\ny,p,test\n", "is in train and in test"),
        ("", "no column"),
    ],
)
def test_a_wrong_split_file_is_a_line(text, message, tmp_path):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_split_file(tmp_path / "s.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_split_file(tmp_path / "missing.csv")


def test_a_split_file_that_was_written_is_read(tmp_path):
    rows = [("t1/Müller, A", "Müller", "train"), ('ct/a "b"', "1", "test"), ("t1/c", "c", "validation")]
    file = write_split_file(tmp_path / "split.csv", [(row, "name") for row in rows])
    assert read_split_file(file) == sorted(rows)
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(WriteError, match="exists"):
        write_split_file(file, [])
    for name in (" a", "a\nb", "a\udcff"):
        with pytest.raises(ConfigError, match="rename the volume"):
            write_split_file(tmp_path / "other.csv", [((name, "p", "train"), "name")])
    assert not (tmp_path / "other.csv").exists()


def counts(fractions, patients, known=None):
    splits = assign_splits(patients, seed=0, fractions=fractions, known=known or {})
    return [list(splits.values()).count(split) for split in ("train", "validation", "test")]


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [((0.1, 0.3), [12, 2, 6]), ((0.3, 0.1), [12, 6, 2]), ((0.0, 0.3), [14, 0, 6]), ((0.3, 0.0), [14, 6, 0])],
)
def test_each_split_gets_its_own_fraction_and_none_for_0(fractions, expected):
    assert counts(fractions, {"ct": {f"p{n}" for n in range(20)}}) == expected


def test_the_fewest_patients_to_split_are_split():
    names = [f"p{n}" for n in range(FEWEST_TO_SPLIT)]
    assert counts((0.1, 0.1), {"ct": set(names)}) == [FEWEST_TO_SPLIT - 2, 1, 1]
    assert counts((0.1, 0.1), {"ct": set(names[:-1])}) == [FEWEST_TO_SPLIT - 1, 0, 0]


def test_a_domain_with_few_patients_comes_first_regardless_of_its_name():
    """Otherwise the large domain could hold out the patients of the small one, which has none to spare."""
    many = {f"p{n}" for n in range(30)}
    for small, large in (("a", "z"), ("z", "a")):
        for patient in sorted(many):
            splits = assign_splits({small: {patient}, large: many}, seed=0, fractions=(0.3, 0.3), known={})
            assert splits[patient] == "train"


def test_a_domain_whose_patients_are_all_known_does_not_end_the_assignment():
    patients = {"a": {"known"}, "b": {f"p{n}" for n in range(20)}}
    splits = assign_splits(patients, seed=0, fractions=(0.1, 0.1), known={"known": "train"})
    assert set(splits) == patients["a"] | patients["b"]
