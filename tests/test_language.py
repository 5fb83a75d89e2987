"""Pages, help texts, messages, comments, docstrings and names of tests contain no phrase of TABLE."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medcyclegan.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODULES = sorted(path for part in ("medcyclegan", "pipelines", "examples") for path in (ROOT / part).rglob("*.py"))
TEMPLATES = [
    *sorted((ROOT / "configs").glob("*.yaml")),
    *sorted((ROOT / "medcyclegan" / "report").rglob("*.html")),
    *sorted((ROOT / "pipelines" / "launch").iterdir()),
]

#: What to write instead -> expressions, in lower case, each with a phrase that it must find.
TABLE = {
    "synthetic phantom, synthetic head": {
        r"\bmade (?:heads?|phantoms?|volumes?|cohorts?|series)\b": "on made heads",
    },
    "warn, report, print, log": {
        r"\baloud\b": "is said aloud",
        r"\b(?:is|are|was|were|be|been) (?:then )?said\b": "which is said once",
        r"\bsays so\b": "every output is synthetic and says so",
        r"\bsay (?:nothing|more|everything)\b(?! about)": "Say more.",
    },
    "continue, resume": {
        r"\b(?:go|goes|going|gone|went) on\b": "the run goes on",
    },
    "is, exists, is in, is stored in": {
        r"\bstands? (?:in|there|beside|each)\b": "what it stands in",
        r"\b(?:lie|lies|lay|lying) (?:beside|there|apart|with|together)\b": "the sidecar lies beside the output",
        # A value may lie in an interval, a point in a plane.
        r"\b(?:lie|lies|lay|lying) (?:in|on|under)\b(?! \[| (?:an?|the) (?:line|plane|interval|range|patient)\b)":
            "stacks lie in their folder",
    },
    "next to, compared with, in addition to": {
        r"\bbeside\b": "the score of the input beside it",
    },
    "regardless of": {
        r"\bwhatever (?:the|its|their|his|her|an?|stopped|was|comes|else|order|name|folders?)\b": "whatever its size",
    },
    "N, at most N": {
        r"\bso many\b": "no more than so many slices",
    },
    "estimate, calculate, expect": {
        r"\breckon(?:s|ed|ing)?\b": "a cost is reckoned",
    },
    "off by, differs by": {
        r"\bhow far (?:that|it|they|this) (?:is|are|lies?) off\b": "how far that is off is printed",
        r"\bhow far (?:\w+ )?(?:lies?|comes?) (?:apart|out)\b": "how far predictions lie apart",
    },
    "tissue class, label, type": {
        r"\bkinds? of (?:things?|tissues?)\b": "one kind of tissue",
        r"\bcpus of one kind\b": "on CPUs of one kind",
    },
    "uncertainty": {
        r"\btrust[- _]?maps?\b": "the trust map",
        r"--trust\b": "with --trust FILE",
        r"\bwhere to (?:doubt|beware)\b": "and where to doubt it",
    },
    "previous, earlier": {
        r"\bthe ones? before\b": "the one before",
        r"\bbefore's\b": "the row before's",
    },
    "was not tried, is skipped": {
        r"\b(?:they|these|those) are not done\b": "they are not done",
        r"\bnot done again\b": "a stage is not done again",
    },
    "test whether, check": {
        r"\basks? whether\b": "the test asks whether",
    },
    "its own name, the name of the folder": {
        r"\b(?:name|folder|file|script|module|random key|numbers?) of (?:its|their) own\b": "a folder of its own",
    },
    "does not fit, does not exist, is not one": {
        r"(?<!there )\b(?:is|are) none\b": "a translation that does not is none",
        r"\bnone (?:is|are)\b(?! (?:left|given|found|set|held|needed))": "of these none is",
        r"\bwill not do\b": "little else will not do",
    },
    "cannot be combined with, is only for": {
        r"\bserves? (?:an?|one) [\w ]{1,30}\bonly\b": "it serves a DICOM series only",
    },
    "by default": {
        r"\bwhere nothing is (?:said|asked|set)\b": "where nothing is said",
    },
    "metadata, fields, text": {
        r"\b(?:words|facts) of (?:an?|the) (?:file|header)s?\b": "the facts of a file",
        r"\bin words\b": "what it did, in words",
    },
    "the package, the project": {
        r"\bthe house\b": "how the house stands",
        r"\bverbs (?:and|on)\b": "verbs on one thing",
        r"\bshowpiece\b": "the showpiece",
    },
    "the inverse, the cycle, the steps": {
        r"\b(?:the|its|a|whole) way (?:back|there|from|of the data|over)\b": "what the way back does not restore",
    },
    "alone, automatically": {
        r"\bby (?:itself|themselves)\b": "which that code does by itself",
    },
    "distinguish, identify": {
        r"\b(?:tell|tells|told|telling) (?:\w+ ){0,4}apart\b": "series are told apart by their UID",
    },
    "also copy, keep": {
        r"\b(?:take|takes|took|taken) (?!turns)(?:\w+ )?along\b": "a lock that it takes along",
    },
    "space, memory": {
        r"\broom\b": "there is no room on the disk",
    },
    "align, overlay": {
        r"\b(?:lay|lays|laid) (?:[\w ]{0,20} )?(?:on|onto|over|upon) (?:one another|each other|the)\b":
            "lay the two scans onto one another",
    },
    "more expensive, fixed, only air": {
        r"\bdearer\b": "no dearer",
        r"\bmend(?:s|ed|ing)?\b": "it was mended",
        r"\bmere\b": "slices of mere air",
        r"\bmade of\b(?= (?:generators|what))": "a model made of generators",
    },
    "(leave it out, or say it plainly)": {
        r"\blet alone\b": "let alone",
        r"\bbe had\b": "what can be had",
        r"\bready-made\b": "a ready-made one",
        r"\bat its end\b": "at its end",
        r"\bfor want of\b": "for want of a compiler",
        r"\bhappens? upon\b": "that the first steps happen upon",
        r"\bturn(?:s|ed)? round\b": "the contrast is turned round",
        r"\bgoes about it\b": "how it goes about it",
        r"\bas it stands\b": "used as it stands",
    },
}  # fmt: skip
FORBIDDEN = [(re.compile(text, re.I), advice) for advice, entries in TABLE.items() for text in entries]

#: Sentences that no expression may reject.
PLAIN = [
    "Each value lies in [-1, 1]; the corners lie in a plane; a HU lies in the range of the window.",
    "Continue on the same device. The algorithm was changed once.",
    "PACS stands for picture archiving and communication system.",
    "This requires one file per series, of which there are many.",
    "Values beyond the window say nothing about air. If none is left, or if there are none, it stops.",
    "Two acquisitions take turns along the stack.",
    "Besides, all other bits are read back from the file.",
    "Models made by other programs are on the disk; they are trusted only after their checksum was verified.",
    "Install it into an environment of your own.",
]


def faults(text: str) -> list[str]:
    """Return each forbidden phrase in ``text`` with its surroundings and what to write instead."""
    plain = " ".join(text.split())
    return [
        f"...{plain[max(0, found.start() - 30) : found.end() + 30]}... [{found[0]}: write: {advice}]"
        for expression, advice in FORBIDDEN
        for found in expression.finditer(plain)
    ]


def prose_of_page(text: str) -> str:
    """Return a page without its code blocks, code spans and link targets, which may quote names."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"^ {4}\S.*$", "", text, flags=re.M)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", text, flags=re.S)


def prose_of_module(source: str) -> Iterator[str]:
    """Yield the comments (those of consecutive lines joined) and the strings of a module, without names in them."""
    comment, last = "", -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            joined = comment if token.start[0] == last + 1 else ""
            if comment and not joined:
                yield _without_names(comment)
            comment, last = f"{joined} {token.string.lstrip('#: ')}", token.start[0]
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            yield _without_names(token.string)
    yield _without_names(comment)


def _without_names(text: str) -> str:
    """Return prose without code spans, cross-references and the replacement fields of f-strings."""
    return re.sub(r"``.*?``|`[^`]*`|\{[^{}]*\}|\\\n", " ", text, flags=re.S)


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield each command's help and each option's help, with its name."""
    context = click.Context(main)
    yield "medcyclegan", main.help or ""
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, f"{command.help or ''} {command.short_help or ''}"
        for option in command.params:
            if isinstance(option, click.Option):
                yield f"{name} {option.opts[0]}", option.help or ""


@pytest.mark.parametrize(
    ("expression", "phrase"), [pair for entries in TABLE.values() for pair in entries.items()], ids=lambda text: text
)
def test_each_expression_finds_its_phrase(expression, phrase):
    assert re.search(expression, phrase, re.I)


@pytest.mark.parametrize("sentence", PLAIN)
def test_plain_sentences_pass(sentence):
    assert faults(sentence) == []


def test_code_is_left_out_and_comments_are_joined():
    source = '#: A run that goes\n#: on.\nbeside = f"{beside} is ``beside``"\nx = """Say it\n    aloud."""\n'
    assert [fault.split("[")[1] for text in prose_of_module(source) for fault in faults(text)] == [
        "aloud: write: warn, report, print, log]",
        "goes on: write: continue, resume]",
    ]
    assert faults(prose_of_page("Plain `goes on` text.\n\n```sh\ngo on\n```\n\n    train  # goes on\n")) == []
    assert len(faults(prose_of_page("It goes\non."))) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_in_plain_english(page):
    assert faults(prose_of_page(page.read_text("utf-8"))) == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_templates_and_configurations_are_in_plain_english(template):
    assert faults(_without_names(re.sub(r"^\s*#", "", template.read_text("utf-8"), flags=re.M))) == []


@pytest.mark.parametrize("texts", [pytest.param(text, id=name) for name, text in help_texts()])
def test_help_is_in_plain_english(texts):
    assert faults(texts) == []


def test_names_of_tests_are_in_plain_english():
    names = [
        (path, name)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^ *def (test_\w+)", path.read_text("utf-8"), flags=re.M)
    ]
    assert len(names) > 1000
    assert [(path.name, name) for path, name in names if faults(name.replace("_", " "))] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_docstrings_and_messages_are_in_plain_english(module):
    assert [fault for text in prose_of_module(module.read_text("utf-8")) for fault in faults(text)] == []
