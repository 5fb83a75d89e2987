"""The mutants of the package, from the operators of cosmic-ray, and a random sample of them, for ``mutations.py``."""

from __future__ import annotations

import ast
import functools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

#: Those without arguments: the others replace a named variable by a random number.
OPERATORS = {name: get_operator(name)() for name in operator_names() if "Variable" not in name}
Position = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One change of one module: the occurrence, in the file's order, at which an operator of cosmic-ray is applied."""

    module: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str

    @property
    def part(self) -> str:
        """Return the part of the package: the folder, or the module where there is none."""
        return Path(self.module).with_suffix("").parts[1]


@dataclass(frozen=True)
class Place:
    """Where an operator can be applied."""

    module: Path
    line: int
    operator: str
    occurrence: int


@functools.cache
def find_places(tree: Path, module: Path) -> list[Place]:
    """Return all places of a module where a mutation changes what the code does: not those in annotations."""
    source = (tree / module).read_text()
    annotations = list(_annotations(ast.parse(source)))
    counts: dict[str, int] = defaultdict(int)
    places = []
    for node in ast_nodes(get_ast(source)):
        for name, operator in OPERATORS.items():
            for start, _ in operator.mutation_positions(node):
                if not any(first <= start < last for first, last in annotations):
                    places.append(Place(module, start[0], name, counts[name]))
                counts[name] += 1
    return places


def draw_mutants(tree: Path, modules: Iterable[Path], seed: int) -> Iterator[Mutant]:
    """Yield one mutant per line of code, in random order: each line that can be changed is as likely as any other.

    In a line, an operator's family is drawn first: replacing one arithmetic operator by each of eleven others would
    outweigh everything else.
    """
    lengths = {module: len((tree / module).read_text().splitlines()) for module in sorted(modules)}
    lines = [(module, line) for module, length in lengths.items() for line in range(1, length + 1)]
    generator = random.Random(seed)
    for module, line in generator.sample(lines, len(lines)):
        families: dict[str, list[Place]] = defaultdict(list)
        for place in find_places(tree, module):
            if place.line == line:
                families[place.operator.split("/")[1].split("_")[0]].append(place)
        if families:
            mutant = _mutant(tree, generator.choice(families[generator.choice(sorted(families))]))
            if mutant is not None:
                yield mutant


def mutated_source(tree: Path, mutant: Mutant) -> str:
    """Return the source of the mutant's module with the change."""
    source = (tree / mutant.module).read_text()
    changed = mutate_code(source, OPERATORS[mutant.operator], mutant.occurrence)
    if changed is None or source.splitlines()[mutant.line - 1].strip() != mutant.before:
        raise SystemExit(f"{mutant.module}:{mutant.line}: the code has changed since the mutant was drawn")
    return str(changed)


def _mutant(tree: Path, place: Place) -> Mutant | None:
    source = (tree / place.module).read_text()
    changed = mutate_code(source, OPERATORS[place.operator], place.occurrence)
    try:
        if changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:  # such as another operator for the star before keyword-only parameters
        return None
    old, new = source.splitlines(), changed.splitlines()
    after = new[place.line - 1].strip() if len(old) == len(new) else "(removed)"
    return Mutant(str(place.module), place.line, place.operator, place.occurrence, old[place.line - 1].strip(), after)


def _annotations(tree: ast.Module) -> Iterator[tuple[Position, Position]]:
    """Yield start and end of each annotation; nothing evaluates them."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            note = getattr(node, name, None)
            if isinstance(note, ast.expr):
                yield (note.lineno, note.col_offset), (note.end_lineno or 0, note.end_col_offset or 0)
