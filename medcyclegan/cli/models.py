"""``medcyclegan models``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import click

from medcyclegan.cli.common import Command

if TYPE_CHECKING:
    from medcyclegan.model.shipped import ShippedModel


@click.command("models", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object per model.")
def command(name: str | None, as_json: bool) -> None:
    """List the models that come with medcyclegan, or print the model card of one of them.

    A model's name can be passed to --model and --init-from instead of a model folder.
    """
    from medcyclegan.errors import ModelError, UsageError
    from medcyclegan.model.card import CARD
    from medcyclegan.model.shipped import shipped_models

    models = {model.name: model for model in shipped_models()}
    if not models:
        missing = "this installation has no shipped models: install medcyclegan again, or train one"
        if name is not None:
            raise ModelError(missing)
        logging.getLogger(__name__).warning("%s", missing)
    if name is not None and name not in models:
        raise UsageError(f"{name}: not a shipped model: name one of {', '.join(models)}")
    if as_json:
        chosen = [models[name]] if name is not None else list(models.values())
        rows = [{"name": m.name, "domains": dict(m.domains), "size_mb": round(m.size_mb, 1), **m.about} for m in chosen]
        click.echo(json.dumps(rows, indent=1, allow_nan=False))
    elif name is not None:
        click.echo((models[name].folder / CARD).read_text("utf-8"), nl=False)
    else:
        for model in models.values():
            _print_entry(model)


def _print_entry(model: ShippedModel) -> None:
    (a, _), (b, _) = model.domains
    click.echo(f"{model.name}  {a} to {b} and back, {model.size_mb:.1f} MB: {model.about['title']}")
    for label, key in (("trained on:", "trained_on"), ("measured:", "measured"), ("not for:", "limits")):
        values = model.about[key]
        for line in values if isinstance(values, list) else [values]:
            click.echo(click.wrap_text(str(line), 100, f"  {label:12}", " " * 14))
            label = ""
