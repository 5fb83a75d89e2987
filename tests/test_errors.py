import copy

from medcyclegan import errors
from medcyclegan.errors import MedCycleGANError, nearest, one_line


def test_every_error_is_of_the_one_tree_and_drawn_in_it():
    names = [name for name in errors.__all__ if name not in ("nearest", "one_line")]
    assert errors.__all__ == [*sorted(names), "nearest", "one_line"]
    for name in names:
        assert issubclass(getattr(errors, name), MedCycleGANError)
        assert name in errors.__doc__


def test_a_message_is_one_safe_line():
    error = MedCycleGANError("a\nb\x1b[31m\tc\x00 d\u202ee")
    assert str(error) == "a b\\x1b[31m c\\x00 d\\u202ee"
    assert one_line("é 头") == "é 头"


def test_the_nearest_name_ignores_case_and_the_kind_of_dash():
    assert nearest("T1_w", ["t2-w", "t1-w"]) == "t1-w"
    assert nearest("Head-T1", ["ct", "mr"]) is None


def test_usage_errors_exit_with_2():
    assert errors.UsageError("x").exit_code == 2
    assert errors.ReadError("x").exit_code == 1


def test_the_remedy_ends_the_message_and_survives_copying_and_wrapping():
    error = errors.GeometryError("a.nii: no\naxes", remedy="repair  it", options={"assume_axes": "LAS"})
    assert str(error) == "a.nii: no axes: repair it"
    for same in (copy.deepcopy(error), errors.GeometryError.from_error("", error)):
        assert (str(same), same.remedy, same.options) == (str(error), "repair it", {"assume_axes": "LAS"})
    wrapped = errors.WriteError.from_error("read back, ", error)
    assert (str(wrapped), wrapped.remedy) == ("read back, a.nii: no axes: repair it", "repair it")
    assert (error.problem, errors.ReadError("alone").problem) == ("a.nii: no axes", "alone")
    assert (errors.ReadError("alone").remedy, errors.ReadError("alone").options) == ("", {})
