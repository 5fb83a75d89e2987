"""Generate the reference pages when the documentation is built: commands from click, configuration from pydantic."""

from __future__ import annotations

import inspect
import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
import yaml
from pydantic import BaseModel

from medcyclegan.cli.main import main
from medcyclegan.config import Config, load_config, shipped_configs

#: Placeholders in the Markdown files.
COMMANDS, CONFIGURATION = "<!-- commands -->", "<!-- configuration -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholders of the two reference pages."""
    for placeholder, write in ((COMMANDS, commands), (CONFIGURATION, configuration)):
        if placeholder in markdown:
            markdown = markdown.replace(placeholder, write())
    return markdown


def commands() -> str:
    """Return the usage, help text and options of every command."""
    parts = []
    for name in main.list_commands(click.Context(main)):
        command = main.get_command(click.Context(main), name)
        assert command is not None  # noqa: S101
        context = click.Context(command, info_name=f"medcyclegan {name}")
        options = [p for p in command.params if isinstance(p, click.Option)]
        rows = [record for p in options if (record := p.get_help_record(context)) is not None]
        lines = [f"| `{option}` | {_cell(text)} |" for option, text in rows]
        table = "\n".join(["| option | meaning |", "| --- | --- |", *lines])
        usage = context.get_usage().removeprefix("Usage: ")
        parts.append(f"## {name}\n\n```text\n{usage}\n```\n\n{_prose(command.help or '')}\n\n{table}")
    return "\n\n".join(parts)


def configuration() -> str:
    """Return one table per section of the configuration, then the shipped files."""
    parts = list(_sections("", Config))
    for name in shipped_configs():
        chosen = load_config(name).model_dump(mode="json", exclude_defaults=True)
        text = yaml.safe_dump(chosen, sort_keys=False, default_flow_style=None).strip()
        parts.append(
            f"## Shipped configuration `{name}`\n\nThe values that differ from the defaults:\n\n```yaml\n{text}\n```"
        )
    return "\n\n".join(parts)


def _sections(prefix: str, model: type[BaseModel]) -> Any:
    title = f"`{prefix}`" if prefix else "Top level"
    rows = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    below = []
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None:
            below.append(
                (f"{prefix}.{name}".lstrip(".") + (".NAME" if get_origin(field.annotation) is dict else ""), inner)
            )
            continue
        default = yaml.safe_dump(field.get_default(call_default_factory=True), default_flow_style=True)
        default = default.replace("...", "").strip()
        rows.append(f"| `{name}` | {_values(field.annotation)} | `{default}` | {_cell(field.description or '')} |")
    if len(rows) > 2:
        yield f"## {title}\n\n{_prose(inspect.getdoc(model) or '')}\n\n" + "\n".join(rows)
    for place, inner in below:
        yield from _sections(place, inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    found = get_args(annotation)[-1] if get_origin(annotation) is dict else annotation
    return found if inspect.isclass(found) and issubclass(found, BaseModel) else None


def _values(annotation: Any) -> str:
    """Describe a type for the column of allowed values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _values(part) for part in arguments)
    if origin is tuple:
        return f"{len(arguments)} numbers"
    if hasattr(annotation, "__metadata__"):
        return _values(arguments[0])
    return {int: "integer", float: "number", bool: "true or false", str: "text"}.get(annotation, "value")


def _prose(text: str) -> str:
    """Convert a click help text or a docstring to Markdown; paragraphs marked with ``\\b`` become code blocks."""
    parts = [part.rstrip() for part in re.split(r"\n\s*\n", inspect.cleandoc(text.replace("\b\n", "\b")))]
    return "\n\n".join(f"```text\n{p[1:]}\n```" if p.startswith("\b") else _plain(p) for p in parts)


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Replace the double backquotes of reStructuredText by single ones, and escape angle brackets."""
    return text.replace("``", "`").replace("<", "&lt;")
