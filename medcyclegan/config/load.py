"""Load a shipped configuration or a YAML file as a validated :class:`Config`, and rules files of ``serve``."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from medcyclegan.config.schema import Config, Domain
from medcyclegan.config.serving import Serving
from medcyclegan.errors import ConfigError, UsageError, nearest

__all__ = ["load_config", "load_serving", "parse_config", "shipped_configs", "to_yaml"]


def shipped_configs() -> tuple[str, ...]:
    """Return the sorted names of the configurations that are part of the package."""
    folder = importlib.resources.files("medcyclegan.configs")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_config(name: str | Path = "default", overrides: Sequence[str] = ()) -> Config:
    """Read a configuration by its shipped name or its file, with ``section.key=value`` overrides.

    Raises :class:`~medcyclegan.errors.ConfigError` for a file that is missing, is not YAML, or contains an
    unknown key or a value out of range, and :class:`~medcyclegan.errors.UsageError` for such an override.
    """
    where, text = _read_text(str(name))
    values = _parse_yaml(text, where)
    config = parse_config(values, where)
    named = {_key_of(override) for override in overrides}
    for override in overrides:
        values = _override(values, override)
        replaced = _REPLACED.get(_key_of(override))
        if replaced is not None and replaced not in named:  # steps that are set together with epochs stay
            values = _without(values, replaced)
    if overrides:
        try:
            config = parse_config(values, "--set")
        except ConfigError as error:
            raise UsageError(error) from None
    return config


def parse_config(values: Mapping[str, Any], where: str) -> Config:
    """Validate ``values`` and return the configuration; ``where`` names their source in messages.

    Raises :class:`~medcyclegan.errors.ConfigError` naming the first fault, its rule and a remedy.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_fault(error, Config)}") from None


def _without(values: Mapping[str, Any], dotted: str) -> dict[str, Any]:
    """Return ``values`` without the setting ``section.key``, if it is there."""
    section, key = dotted.split(".")
    return {
        name: {k: v for k, v in inner.items() if k != key} if name == section and isinstance(inner, dict) else inner
        for name, inner in values.items()
    }


def load_serving(path: str | Path) -> Serving:
    """Read a rules file of ``serve``.

    Raises :class:`~medcyclegan.errors.ConfigError` for a file that is missing, is not YAML, or contains an
    unknown key or a value out of range.
    """
    name = str(path)
    if not Path(name).is_file():
        raise ConfigError(f"{name}: no such rules file: name a YAML file")
    values = _parse_yaml(_read_file(name), name)
    try:
        return Serving.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_first_fault(error, Serving)}") from None


def to_yaml(config: Config) -> str:
    """Return the complete configuration as YAML; :func:`load_config` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_text(name: str) -> tuple[str, str]:
    if name in shipped_configs():
        file = importlib.resources.files("medcyclegan.configs") / f"{name}.yaml"
        return f"configs/{name}.yaml", file.read_text("utf-8")
    path = Path(name)
    if not path.is_file():
        near = nearest(name, shipped_configs())
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigError(
            f"{name}: no such configuration file: {hint}name a YAML file or one of {', '.join(shipped_configs())}"
        )
    return name, _read_file(name)


def _read_file(name: str) -> str:
    path = Path(name)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(
                f"{name}: over 100 kB, which is too large for a configuration: name a YAML file of settings"
            )
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot be read as UTF-8 text: {error}") from None


#: The complete default configuration has about 10 kB and no value of 1,000 characters. PyYAML's time grows with the
#: square of the number of digits.
_LARGEST_BYTES = 100_000
_LONGEST_VALUE = 1_000


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML loader that rejects aliases (which can expand without bound), overlong values and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("YAML aliases (*name) are not accepted in a configuration: write the value out")
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST_VALUE:
            raise ConfigError(f"a value of {len(event.value)} characters: a setting has at most {_LONGEST_VALUE}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(f"the key {key.value!r} occurs twice: keep one of them")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: contains a {type(values).__name__}, but a configuration is a mapping of sections")
    return values


#: A number of epochs, and the number of steps in its section that would replace it. An override of the first removes
#: the second, which a shipped configuration may have set.
_REPLACED = {
    "training.epochs": "training.max_steps",
    "training.checkpoint_epochs": "training.checkpoint_steps",
    "validation.every_epochs": "validation.every_steps",
}


def _key_of(override: str) -> str:
    return override.partition("=")[0].strip()


def _override(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    """Return ``values`` with the override ``section.key=value`` applied; the value is parsed as YAML."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {override}: write it as section.key=value, such as training.epochs=50")
    try:
        value = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ConfigError, RecursionError, ValueError) as error:
        raise UsageError(f"--set {override[:80]}: the value is not valid YAML: {error}") from None
    result: dict[str, Any] = dict(values)
    level = result
    for key in keys[:-1]:
        inner = level.get(key)
        level[key] = dict(inner) if isinstance(inner, dict) else {}
        level = level[key]
    level[keys[-1]] = value
    return result


def _first_fault(error: ValidationError, root: type[BaseModel]) -> str:
    """Return the first fault as ``section.key = value: rule``, with a suggestion for a misspelled key."""
    fault = error.errors(include_url=False, include_context=False)[0]
    location = [str(part) for part in fault["loc"]]
    dotted = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(root, location[:-1])
        near = nearest(location[-1], known)
        hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {dotted!r}: {hint}"
    value = repr(fault["input"])
    comma = re.fullmatch(r"'([+-]?\d+),(\d+)'", value)
    hint = f": write a decimal point, {comma[1]}.{comma[2]}" if comma is not None else ""
    return f"{dotted} = {value if len(value) < 80 else value[:77] + '...'}: {fault['msg']}{hint}"


def _known_keys(root: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys of the section at ``location``; an element of a list has its number there."""
    section = root
    parts = list(location)
    while parts:
        name = parts.pop(0)
        if section is Config and name == "domains" and parts:
            parts.pop(0)
            section = Domain
            continue
        annotation = section.model_fields[name].annotation
        if parts and parts[0].isdecimal():
            parts.pop(0)
            annotation = get_args(annotation)[0]
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)
