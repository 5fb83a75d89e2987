"""The rules file of serve: what it may contain, and what is refused with its place."""

import pytest

from medcyclegan.config import Rule, Serving, load_serving
from medcyclegan.errors import ConfigError


def load(tmp_path, text):
    (tmp_path / "rules.yaml").write_text(text)
    return load_serving(tmp_path / "rules.yaml")


def test_an_empty_file_is_the_default_and_values_are_read(tmp_path):
    assert load(tmp_path, "") == Serving() == Serving(rules=(Rule(),))
    found = load(tmp_path, "rules: [{modality: CT, to: t1}, {skip: true}]\nlimits: {object_mb: 5}\n")
    assert [(rule.modality, rule.to, rule.skip) for rule in found.rules] == [("CT", "t1", False), (None, None, True)]
    assert found.limits.object_mb == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule: []", "unknown key 'rule': did you mean 'rules'?"),
        ("rules: [{}, {modalty: CT}]", "unknown key 'rules.1.modalty': did you mean 'modality'?"),
        ("limits: {object_mbs: 1}", "unknown key 'limits.object_mbs': did you mean 'object_mb'?"),
        ("rules: [{modality: US}]", "rules.0.modality = 'US': Input should be 'CT' or 'MR'"),
        ("rules: []", "rules = []"),
        ("limits: {associations: 0}", "limits.associations = 0: Input should be greater than or equal to 1"),
        ("waiting: {quiet_s: .inf}", "waiting.quiet_s = inf"),
        ("rules: [{description: !!python/name:os.system x}]", "not valid YAML"),
        ("- 1", "contains a list"),
    ],
)
def test_faults_are_named_by_their_place(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such rules file"):
        load_serving(tmp_path / "none.yaml")
