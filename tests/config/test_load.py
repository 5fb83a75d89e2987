import importlib.resources
import time

import pytest
import yaml

from medcyclegan.config import Config, load_config, parse_config, shipped_configs, to_yaml
from medcyclegan.errors import ConfigError, UsageError


def test_the_shipped_configurations_are_these():
    assert shipped_configs() == ("cpu", "ct-mr", "default", "demo", "harmonise", "pretrain", "smoke", "t1-t2")


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_loads_and_comes_back(name, tmp_path):
    config = load_config(name)
    (tmp_path / "copy.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "copy.yaml") == config


def test_default_yaml_states_every_default():
    text = (importlib.resources.files("medcyclegan.configs") / "default.yaml").read_text()
    assert load_config("default") == Config()
    assert yaml.safe_load(text) == Config().model_dump(mode="json")


def test_every_field_is_documented():
    def walk(section):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                walk(field.annotation)

    walk(Config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.epochs=3", r"unknown key 'trainig': did you mean 'training'\?"),
        ("training.epoch=3", r"unknown key 'training.epoch': did you mean 'epochs'\?"),
        ("domains.ct.modalty=CT", r"did you mean 'modality'\?"),
        ("training.epochs=0", "training.epochs = 0: .*greater than or equal to 1"),
        ("training.learning_rate=.nan", "finite"),
        ("training.max_steps=true", "whole number"),
        ("slicing.size=250", "multiple of 4"),
        ("domains.ct.scaling.window_hu=[5, 1]", "must ascend"),
        ("domains.ct.scaling.window_hu=[-1024, 99999]", "16-bit"),
        ("training.precision=fp64", "training.precision = 'fp64': Input should be 'auto', 'fp32', 'bf16' or 'fp16'$"),
        ("networks.generator.kind=identity", "generator.kind = 'identity': Input should be 'resnet'"),
        ("pretraining.lesion_weight=100000", "less than or equal to 1000"),
        ("pretraining={l1_weight: 0, lesion_weight: 3}", "lesion_weight has no effect with l1_weight 0"),
        ("training=5", "training = 5"),
        ("epochs", "write it as section.key=value"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_wrong_usage(override, message):
    with pytest.raises(UsageError, match=message):
        load_config("default", [override])


def test_overrides_keep_the_other_values_of_the_file():
    config = load_config("ct-mr", ["training.epochs=50", "domains.ct.scaling.window_hu=[-200, 300]"])
    assert config.training.epochs == 50
    assert config.losses.cycle_weight == 10
    assert config.domains["ct"].modality == "CT"
    assert config.domains["ct"].scaling.window_hu == (-200, 300)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x\n", "aliases"),
        ("seed: 1\nseed: 2\n", "occurs twice"),
        ("- 1\n- 2\n", "contains a list"),
        ("seed: !!python/object/apply:os.system [echo]\n", "not valid YAML"),
        ("seed: [", "not valid YAML"),
        ("sed: 1\n", "did you mean 'seed'"),
        ("[[[[" * 2000, "not valid YAML"),
    ],
)
def test_a_broken_file_is_a_line(text, message, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_line(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        load_config("smok")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "b.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(tmp_path / "empty.yaml") == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("".join(f"k{i}: 1\n" for i in range(100_000)), "over 100 kB"),
        ("seed: 1" + ":1" * 40_000, "characters"),
        ("seed: 0x" + "f" * 40_000, "characters"),
        ("".join(f"k{i}: 1\n" for i in range(9_000)), "unknown key"),
        ("[" * 20_000, "recursion"),
        ("seed: !!python/object/apply:os.system ['true']", "constructor"),
    ],
)
def test_a_hostile_file_is_refused_within_seconds(tmp_path, text, message):
    file = tmp_path / "hostile.yaml"
    file.write_text(text, "utf-8")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        load_config(file)
    assert time.monotonic() - began < 30


def test_a_deep_override_is_refused():
    with pytest.raises(UsageError, match="not valid YAML"):
        load_config("default", ["seed=" + "[" * 5000])


def test_a_bare_on_or_off_is_no_truth_value(tmp_path):
    config = load_config("default", ["training.compile=off", "training.cuda_graphs=on"])
    assert (config.training.compile, config.training.cuda_graphs) == ("off", "on")
    (tmp_path / "mine.yaml").write_text("training: {compile: on, slices_on_device: off}\n", "utf-8")
    training = load_config(tmp_path / "mine.yaml").training
    assert (training.compile, training.slices_on_device) == ("on", "off")
    with pytest.raises(ConfigError, match=r"training.compile = 1: "):
        parse_config({"training": {"compile": 1}}, "test")


def test_an_override_in_epochs_replaces_the_steps_of_the_configuration() -> None:
    assert load_config("cpu").training.max_steps is not None
    config = load_config("cpu", ["training.epochs=3", "training.checkpoint_epochs=1", "validation.every_epochs=2"])
    assert (config.training.max_steps, config.training.epochs) == (None, 3)
    assert (config.training.checkpoint_steps, config.validation.every_steps) == (None, None)
    for both in (["training.epochs=3", "training.max_steps=7"], ["training.max_steps=7", "training.epochs=3"]):
        assert load_config("cpu", both).training.max_steps == 7
    section_first = load_config("cpu", ["training={max_steps: 3}", "training.epochs=5"]).training
    assert (section_first.max_steps, section_first.epochs) == (None, 5)
