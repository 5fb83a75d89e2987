import logging

import pytest

from medcyclegan.errors import ConfigError, WriteError
from medcyclegan.slicing.split import assign_splits, read_split_file, write_split_file


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
