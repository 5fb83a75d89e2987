"""Words of a volume's name, and what each may denote: a visit, a contrast, a group, or the patient."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable

__all__ = [
    "Reading",
    "Vocabulary",
    "Word",
    "find_vocabulary",
    "is_label",
    "is_number",
    "is_visit_like",
    "read_name",
    "split_words",
    "words_of_visit",
]


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a name: ``key`` in lower case without leading zeros, ``text`` as written.

    ``glued``: no separator precedes it (the ``a`` of ``P01a``).
    """

    key: str
    text: str
    glued: bool = False


@dataclasses.dataclass(frozen=True)
class Reading:
    """Words of a name that may identify a patient: of each folder (outermost first) and of the stem.

    Contrasts, visits and dates are left out, and so are folders that consist only of these. ``groups``: the words of
    folders that name a site or a group of patients.
    """

    groups: tuple[Word, ...]
    folders: tuple[tuple[Word, ...], ...]
    stem: tuple[Word, ...]


#: Entities of BIDS, dates, and words, from left to right.
_WORDS = re.compile(
    r"(?<![^\W_])(?P<entity>(?:ses|run|acq|echo|rec|desc|space)-[A-Za-z0-9+]+)(?![^\W_])"
    r"|(?<![^\W_])(?P<date>(?:19|20)\d\d[-_. ]?(?:0[1-9]|1[0-2])[-_. ]?(?:0[1-9]|[12]\d|3[01])(?:[tT]?\d{4}(?:\d\d)?)?"
    r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?![^\W_])"
    r"|(?P<word>[^\W_]+)",
    re.IGNORECASE,
)
_CONTRAST = (
    r"(?:t1|t2|pd)(?:w|c|ce|gd|n|f|post|star|wi|map)?|flair|swi|dwi|adc|dti|asl|bold|epi|tse|fse|tof|mra|mprage|mp2rage"
    r"|spgr|spc|(?:ct|cbct|cta|mr|mri|pet|spect|us)\d{0,2}|plan|planning"
)
_TIME = r"(?:days?|wks?|weeks?|mo|mos|months?|yrs?|years?|h|hours?)"
_VISIT = (
    rf"(?:visits?|vis|ses|sess|session|timepoint|tp|{_TIME}|followup|fup|fu|run|acq|echo|time|rep|repeat)\d{{0,4}}[a-z]?"
    rf"|\d{{1,3}}{_TIME}|v\d{{1,3}}|t0+"
    r"|baseline|bl|base|follow|up|(?:pre|post|intra)(?:op|rt|tx|treatment|surgery|therapy|chemo)?|op|rt|tx|chemo"
    r"|treatment|surgery|therapy|test|retest|rescan|before|after|initial|final|screening|early|late|first|second|third"
    r"|fourth|1st|2nd|3rd|[4-9]th"
)
#: Words after which a number or a single letter counts visits.
_COUNTED = re.compile(rf"visits?|vis|ses|sess|session|timepoint|tp|{_TIME}|run|acq|echo")
#: Words that describe a file, not a patient.
_FILLER = re.compile(
    r"scans?|stud(?:y|ies)|exams?|series|sequence|images?|img|volumes?|vol|nii|nifti|dicom|dcm|anat|raw|data|dataset"
    r"|slices?|export|files?|derivatives|sourcedata|copy|orig|original|defaced|n3|n4|\d+mm|iso|reg|registered|coreg"
    r"|bet|brain|skullstripped|stripped|norm|normalized|resampled|train|val|validation|all"
)
#: A site, a scanner or a group, with its number or letter.
_GROUP = re.compile(
    r"(?:site|cent(?:er|re)|hospital|clinic|institut(?:e|ion)|cohort|group|batch|scanner|arm)[a-z0-9]{0,3}"
)
#: Words that precede the number of a patient, or name the group in which the number counts.
_PERSON = re.compile(
    r"(?:patient|pat|pt|subject|subj|sub|case|control|ctrl|ctl|healthy|normal|volunteer|participant|person|proband|id)s?"
    r"|hc|ad|mci|cn"
)
#: A visit, if the preceding words name a patient: M12, d30, S2, a letter, a Roman numeral.
_VISIT_LIKE = re.compile(r"[mdwytsv]\d{1,4}|(?:scan|study|exam|series|mri?|ct)\d{1,3}|[a-h]|i{1,3}|iv|vi{0,3}|ix|x")
_KNOWN = re.compile(rf"(?:{_CONTRAST}|{_VISIT})")
#: Words and entities of BIDS in which two volumes of one visit may differ.
_NOT_OF_VISIT = re.compile(rf"(?:{_CONTRAST}|{_FILLER.pattern}|(?:run|acq|echo|rec|desc|space)-.*)")
#: A word that ends in another word without a separator: P01T1, P01v2, P01a.
_GLUED = re.compile(rf"(.*[0-9])((?:{_CONTRAST}|{_VISIT}|[mdwyts]\d{{1,3}}|[a-e]))", re.IGNORECASE)
_DIGITLESS = re.compile(r"[^0-9]+")
_NUMBERED_CONTRAST = re.compile(r"(?:ct|cbct|mr|mri|pet|us)(\d+)", re.IGNORECASE)
_PLAIN_CONTRAST = re.compile(r"t[12](?:w|c|ce|gd)?|(?:ct|cbct|mr|mri|pet|us|flair|pd|pdw)", re.IGNORECASE)
#: T1 is a contrast and V1 a visit, but T01 to T20 number the patients.
_LETTER_AND_NUMBER = re.compile(r"(?<![^\W_])([a-z])0*(\d{1,4})(?![^\W_])", re.IGNORECASE)
_MOST_VISITS = 8


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words that do not distinguish patients, in addition to contrasts and visits: those of ``domains``' names.

    ``letters``: letters that number patients in these names, as in V01 to V20, rather than visits.
    """

    domains: frozenset[str]
    letters: frozenset[str]

    def numbers_patients(self, word: Word) -> bool:
        """Return whether a word belongs to a numbered series of patients."""
        return word.key[:1] in self.letters and is_number(word.key[1:])

    def knows(self, word: Word) -> bool:
        """Return whether a word is a contrast, a visit, the name of a domain, or describes a file."""
        return word.key in self.domains or bool(_KNOWN.fullmatch(word.key) or _FILLER.fullmatch(word.key))


def find_vocabulary(names: Iterable[tuple[str, str]]) -> Vocabulary:
    """Return the vocabulary of ``names``, pairs of a domain and a name."""
    domains, numbers = set(), collections.defaultdict(set)
    for domain, name in names:
        domains.add(domain)
        for match in _LETTER_AND_NUMBER.finditer(name):
            numbers[match[1].casefold()].add(int(match[2]))
    words = {word.key for domain in domains for word in split_words(domain)}
    words |= {domain.casefold() for domain in domains} | {f"{word}w" for word in words}
    return Vocabulary(frozenset(words), frozenset(key for key, found in numbers.items() if len(found) > _MOST_VISITS))


def read_name(name: str, vocabulary: Vocabulary) -> Reading:
    """Parse the name of a volume below its domain (``folder/stem``).

    A name that contains only contrasts, visits and dates keeps them.
    """
    *folders, stem = name.split("/")
    groups: list[Word] = []
    kept = []
    for folder in folders:
        words = _identifying(split_words(folder), vocabulary)
        if words and all(is_label(word.key) for word in words):
            groups += words
        elif words:
            kept.append(words)
    own = split_words(re.sub(r"#\d+$", "", stem))
    words = _identifying(own, vocabulary)
    if not kept and (not words or all(is_label(word.key) for word in words)):
        words = _numbered_words(own) or words or own or (Word("", stem),)
    return Reading(tuple(groups), tuple(kept), words)


def split_words(text: str) -> tuple[Word, ...]:
    """Split a part of a path into words."""
    words: list[Word] = []
    for match in _WORDS.finditer(text):
        found = match[0]
        parts = _GLUED.fullmatch(found) if match["word"] and not _KNOWN.fullmatch(found.casefold()) else None
        if parts:
            words += [Word(_key(parts[1]), parts[1]), Word(_key(parts[2]), parts[2], glued=True)]
        else:
            words.append(Word(_key(found), found))
    return tuple(words)


def words_of_visit(name: str, vocabulary: Vocabulary) -> frozenset[str]:
    """Return the words by which the volumes of one visit of a patient agree: all but contrasts and descriptions."""
    return frozenset(
        word.key
        for part in re.sub(r"#\d+$", "", name).split("/")
        for word in split_words(part)
        if word.key not in vocabulary.domains and not _NOT_OF_VISIT.fullmatch(word.key)
    )


def is_label(key: str) -> bool:
    """Return whether a word names a group, a site or what a number counts, rather than a patient."""
    return bool(_GROUP.fullmatch(key) or _PERSON.fullmatch(key))


def is_visit_like(key: str) -> bool:
    """Return whether a word may name a visit if the preceding words name a patient."""
    return bool(_VISIT_LIKE.fullmatch(key))


def is_number(key: str) -> bool:
    """Return whether a word consists of digits."""
    return key.isdecimal()


def _key(text: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", text.casefold())


def _identifying(words: tuple[Word, ...], vocabulary: Vocabulary) -> tuple[Word, ...]:
    """Return the words without contrasts, fillers, dates, and visits with their numbers."""
    kept: list[Word] = []
    counted = False
    for word in words:
        is_count = counted and (len(word.text) <= 2 and re.fullmatch(r"\d+|\d?[a-z]", word.key))
        counted = bool(_COUNTED.fullmatch(word.key))
        if not is_count and (vocabulary.numbers_patients(word) or not (_is_date(word) or vocabulary.knows(word))):
            kept.append(word)
    return tuple(kept)


def _numbered_words(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return numbered words of a name that seems to hold only visits and contrasts: ``visit_2``, ``M12``, ``CT01``.

    One of them must name the patient. Of a numbered contrast only the number is returned, because the contrast differs
    between the volumes of a patient.
    """
    numbered = []
    for word in words:
        contrast = _NUMBERED_CONTRAST.fullmatch(word.text)
        if contrast and not _PLAIN_CONTRAST.fullmatch(word.key):
            numbered.append(Word(_key(contrast[1]), contrast[1]))
        elif not _DIGITLESS.fullmatch(word.key) and not _PLAIN_CONTRAST.fullmatch(word.key):
            numbered.append(word)
    labels = [word for word in words if is_label(word.key) and _DIGITLESS.fullmatch(word.key)]
    return (*labels, *numbered) if numbered else ()


def _is_date(word: Word) -> bool:
    match = _WORDS.fullmatch(word.text)
    return match is not None and (match["date"] is not None or match["entity"] is not None)
