"""Properties of overrides: each sets its key, later ones win, and invalid text is refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcyclegan.config import load_config, parse_config, to_yaml
from medcyclegan.errors import ConfigError, UsageError

SETTINGS = {
    "seed": st.integers(0, 2**32 - 1),
    "slicing.size": st.integers(8, 512).map(lambda n: 4 * n),
    "slicing.fit": st.sampled_from(["physical", "stretch"]),
    "slicing.pixel_mm": st.floats(0.01, 20.0),
    "domains.ct.modality": st.sampled_from(["CT", "MR"]),
    "domains.t1.scaling.percentiles": st.tuples(st.floats(0, 49), st.floats(50, 100)).map(list),
    "networks.generator.kind": st.sampled_from(["resnet", "unet", "subpixel_unet"]),
    "losses.cycle_weight": st.floats(0, 1e6),
    "training.epochs": st.integers(1, 10**6),
    "training.learning_rate": st.floats(1e-12, 1.0),
    "training.max_steps": st.integers(1, 10**9) | st.none(),
    "validation.slices": st.integers(1, 10**6),
}
settings_of_some = st.lists(
    st.sampled_from(sorted(SETTINGS)).flatmap(lambda key: st.tuples(st.just(key), SETTINGS[key])), max_size=6
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "empty.yaml"
    file.write_text("{}", "utf-8")
    return file


def written(value):
    return "null" if value is None else str(value)


def refused(kind, *arguments):
    """Return the message of the refusal, or None without one; any other error fails the test."""
    try:
        load_config(*arguments)
    except kind as error:
        return str(error)
    return ""


def value_at(config, dotted):
    for key in dotted.split("."):
        config = config[key]
    return config


@given(chosen=settings_of_some)
def test_overrides_set_what_they_name_and_the_last_one_wins(chosen, empty, tmp_path_factory):
    config = load_config(empty, [f"{key}={written(value)}" for key, value in chosen])
    values = config.model_dump(mode="json")
    for key, value in dict(chosen).items():
        assert value_at(values, key) == value
    assert load_config(empty, [f"{key}={written(value)}" for key, value in reversed(dict(chosen).items())]) == config
    copy = tmp_path_factory.getbasetemp() / "copy.yaml"
    copy.write_text(to_yaml(config), "utf-8")
    assert load_config(copy) == config
    assert parse_config(values, "values") == config


@given(key=st.sampled_from([*SETTINGS, "", "domains", "training.", "x.y"]), text=st.text(max_size=30))
def test_any_text_is_a_value_or_a_line(key, text, empty):
    refusal = refused(UsageError, empty, [f"{key}={text}"])
    assert "\n" not in refusal


@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_any_file_is_a_configuration_or_a_line(text, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    assert "\n" not in refused(ConfigError, file)
