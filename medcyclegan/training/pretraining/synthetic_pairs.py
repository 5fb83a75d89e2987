"""Pairs of slices of synthetic patients, which are generated from label maps ahead of their use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from medcyclegan.config import Config
from medcyclegan.data import Sampling, Stream, random_at
from medcyclegan.errors import TrainingError
from medcyclegan.provenance import hash_file
from medcyclegan.synthesis import (
    FREESURFER,
    Cohort,
    LabelledHead,
    Patient,
    Variation,
    draw_of,
    draw_patient,
    lesion_mask,
    load_head,
    render_patient,
    standard_patient,
)
from medcyclegan.synthesis.draws import Draws
from medcyclegan.training.pretraining.cutting import cut_pairs
from medcyclegan.workers import interrupts_blocked

__all__ = ["SyntheticPairs", "variation_of"]

#: The number of patients per worker that are generated before their first slice is needed.
_AHEAD = 2
#: The memory, in bytes, for generating a patient (a worker's peak was 1.7 GB with voxels of 1 mm) and for the prepared
#: head of a label map, and the number of heads that are kept.
_DRAWING_BYTES, _HEAD_BYTES, _MOST_HEADS = 1_500_000_000, 40_000_000, 24
#: The smallest voxel size, relative to the pixels of the slices, and the range that ``Variation`` accepts, in mm.
_FINEST, _FINEST_MM, _COARSEST_MM = 0.75, 0.6, 6.0


def variation_of(config: Config) -> Variation:
    """Return the range of a pretraining's patients, whose voxels are no smaller than its slices need."""
    section = config.pretraining
    finest = _FINEST_MM
    if config.slicing.fit == "physical":
        finest = min(max(_FINEST * config.slicing.pixel_mm, _FINEST_MM), _COARSEST_MM)
    return Variation(
        finest_mm=finest,
        lesions=section.lesion_fraction,
        extracted=section.extracted_fraction,
        metal=section.metal_fraction,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticPairs:
    """Batches of pairs from label maps; sample ``i`` is a pure function of the seed and ``i``.

    ``maps``: the label maps for training; ``held_out_maps``: those for validation, which may be the same. ``table``:
    label to tissue. Round ``r`` consists of ``pretraining.slices_per_patient`` samples and mixes slices of the patients
    ``r``, ``r - 1`` and so on, ``pretraining.patients_at_once`` in all. Each round needs one new patient, which is
    generated in advance: on a CPU by other processes, on a CUDA device by a thread.
    """

    maps: tuple[Path, ...]
    held_out_maps: tuple[Path, ...]
    table: Mapping[int, str]
    domains: tuple[str, str]
    config: Config

    @property
    def description(self) -> str:
        """A description of the pairs, for the log."""
        return f"of synthetic patients, generated during the training from {_counted(len(self.maps))}"

    def describe(self, steps: int) -> dict[str, Any]:
        """Return the entries of ``model.json``: the numbers of label maps, and of patients used in ``steps`` steps."""
        rounds = -(-steps * self.config.training.batch_size // self.config.pretraining.slices_per_patient)
        return {
            "kind": "label maps",
            "label_maps": len(self.maps),
            "label_maps_for_validation": len(self.held_out_maps),
            "patients": rounds,
        }

    def to_record(self, base: Path) -> dict[str, Any]:
        """Return the entries of ``run.json`` for continuing: the label maps, relative to ``base``, and their hashes."""

        def files(paths: Sequence[Path]) -> list[dict[str, str]]:
            return [{"file": os.path.relpath(path.resolve(), base), "sha256": hash_file(path)} for path in paths]

        own_table = None if self.table == FREESURFER else {str(label): name for label, name in self.table.items()}
        return {
            "kind": "label maps",
            "maps": files(self.maps),
            "held_out": files(self.held_out_maps),
            "table": own_table,
        }

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], base: Path, domains: tuple[str, str], config: Config
    ) -> SyntheticPairs:
        """Build it from :meth:`to_record`'s result; ``base`` is the run's folder.

        Raises :class:`~medcyclegan.errors.TrainingError` for a label map that is missing or has changed.
        """

        def paths(files: Sequence[Mapping[str, str]]) -> tuple[Path, ...]:
            found = [Path(os.path.relpath(base.resolve() / entry["file"])) for entry in files]
            for path, entry in zip(found, files, strict=True):
                if not path.is_file() or hash_file(path) != entry["sha256"]:
                    raise TrainingError(
                        f"{path}: the label map is missing or has changed since the run was started: restore it, or "
                        "start a new run"
                    )
            return tuple(found)

        try:
            table = FREESURFER if record["table"] is None else {int(k): str(v) for k, v in record["table"].items()}
            return cls(paths(record["maps"]), paths(record["held_out"]), table, domains, config)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrainingError(
                f"{base}: the pairs in its run.json cannot be read ({error!r}): copy it again"
            ) from None

    def bytes_in_memory(self, device: torch.device) -> int:
        """Return the memory of the workers and of the patients' slices, which are kept as 16-bit numbers."""
        section = self.config.pretraining
        workers = 1 if device.type == "cuda" else max(section.workers, 1)
        patients = section.patients_at_once + _AHEAD * workers
        images = 5 if section.lesion_weight > 0 else 4
        slices = patients * section.slices_per_patient * images * self.config.slicing.size**2 * 2
        return slices + workers * (_DRAWING_BYTES + _HEAD_BYTES * min(len(self.maps), _MOST_HEADS))

    @property
    def smaller(self) -> str:
        """What to change so that the pairs take less memory."""
        names = ("workers", "slices_per_patient", "patients_at_once")
        return f"lower {', '.join(f'pretraining.{name}' for name in names)}"

    @contextlib.contextmanager
    def opened(self, device: torch.device, sampling: Sampling) -> Iterator[Callable[[int], tuple[torch.Tensor, ...]]]:
        """Yield the function that returns this process's share of the batch of a step."""
        workers = self.config.pretraining.workers
        executor: Executor
        if device.type == "cuda" or workers == 0:
            executor = ThreadPoolExecutor(1, thread_name_prefix="medcyclegan-patients")
            where, workers = device, 1
        else:
            executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
            where = torch.device("cpu")
        with contextlib.closing(_Drawn(self, executor, where, _AHEAD * workers)) as drawn:
            yield functools.partial(_batch, drawn, sampling)

    def patient(self, number: int, device: torch.device) -> torch.Tensor:
        """Return the slices of patient ``number``, counted from 0 over the whole run: see :func:`cut_pairs`."""
        turn, place = divmod(number, len(self.maps))
        labels = self.maps[Draws(self.config.seed, "label maps", turn).permutation(len(self.maps))[place]]
        return self._slices_of(labels, Draws(self.config.seed, "pretraining", number).integer(0, 2**31 - 1), device)

    def reference_cohort(self, split: str) -> Cohort:
        """Return the cohort that is drawn before the first step for ``split``, ``train`` or ``validation``."""
        section = self.config.pretraining
        patients = section.reference_patients if split == "train" else section.validation_patients
        # The training numbers its patients in another stream and draws none of these.
        seed = Draws(self.config.seed, "reference", split).integer(0, 2**31 - 1)
        return Cohort(self.domains, patients, seed, variation_of(self.config))

    @property
    def has_held_out(self) -> bool:
        """Whether patients are held out for validation."""
        return bool(self.held_out_maps) and self.config.pretraining.validation_patients > 0

    def held_out(self, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return at least ``count`` pairs of the reference's patients for validation, as a batch on the CPU.

        They are drawn again, like those for training: the reference holds the scans of these patients, but not the
        targets of ``pretraining.targets``.
        """
        if not self.has_held_out:
            return ()
        cohort = self.reference_cohort("validation")
        each = min(-(-count // cohort.patients), 1024)
        section = self.config.pretraining.model_copy(update={"slices_per_patient": each})
        like_training = dataclasses.replace(self, config=self.config.model_copy(update={"pretraining": section}))
        patients = []
        for number in range(cohort.patients):
            chosen, seed = draw_of(cohort, number, len(self.held_out_maps))
            patients.append(like_training._slices_of(self.held_out_maps[chosen], seed, device))
        images = torch.cat(patients).cpu().float()
        return images[:, 0], images[:, 1], images[:, 2], images[:, 3]

    def _slices_of(self, labels: Path, seed: int, device: torch.device) -> torch.Tensor:
        """Draw the patient of ``seed`` from a label map and return its slices."""
        on_cpu, head = (load_head(labels, self.table, where) for where in (None, device))
        patient = draw_patient(seed, on_cpu, self.domains, variation_of(self.config))
        targets, lesion_weight = self.config.pretraining.targets, self.config.pretraining.lesion_weight
        images = render_patient(patient, head, clean=targets != "scan", truth=lesion_weight > 0)
        wanted = images.scans if targets == "scan" else images.clean
        if targets == "standard":
            wanted = wanted | _standard_images(patient, head)
        random = random_at(seed, Stream.SAMPLE, 0)
        weights = None if images.truth is None else 1.0 + lesion_weight * lesion_mask(images.truth).float()
        return cut_pairs(images.scans, wanted, patient, self.config, self.domains, random, weights)


def _standard_images(patient: Patient, head: LabelledHead) -> dict[str, torch.Tensor]:
    """Return the patient's MR contrasts with their standard protocols, clean; CT does not depend on a protocol."""
    mr = [n for n, protocol in enumerate(patient.protocols) if protocol.sequence is not None]
    chosen = standard_patient(
        dataclasses.replace(
            patient,
            protocols=tuple(patient.protocols[n] for n in mr),
            acquisitions=tuple(patient.acquisitions[n] for n in mr),
        )
    )
    return render_patient(chosen, head, clean=True, truth=False).clean


class _Drawn:
    """The patients in use, and those that are generated ahead of their use."""

    def __init__(self, pairs: SyntheticPairs, executor: Executor, device: torch.device, ahead: int) -> None:
        self._pairs = pairs
        self._executor = executor
        self._device = device
        self._ahead = ahead
        self._patients: dict[int, Future[torch.Tensor]] = {}
        section = pairs.config.pretraining
        self._at_once, self._slices = section.patients_at_once, section.slices_per_patient
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def sample(self, i: int) -> torch.Tensor:
        """Return the images of sample ``i``, ``(4, 1, H, W)``, or 5 if lesions are weighted."""
        round_, place = divmod(i, self._slices)
        self._draw_for(round_)
        number = self._order(round_)[place]
        # The number of the slice determines how many rounds before this one its patient was new. The first rounds have
        # no earlier patients and use more slices of patient 0 instead.
        patient = max(0, round_ - number * self._at_once // self._slices)
        try:
            return self._patients[patient].result()[number]
        except BrokenExecutor:
            raise TrainingError(
                "a process that generates patients was killed, most often because memory ran out: continue with "
                "--resume; if there are several pretraining.workers, reduce their number in the run's config.yaml"
            ) from None

    def close(self) -> None:
        """Stop generating patients."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _draw_for(self, round_: int) -> None:
        first, end = max(0, round_ - self._at_once + 1), round_ + self._ahead + 1
        for patient in [patient for patient in self._patients if patient < first]:
            del self._patients[patient]
        for patient in range(first, end):
            if patient not in self._patients:
                # Ctrl-C reaches every process of a terminal, but workers, which are started here, must be ended by the
                # training.
                with interrupts_blocked():
                    self._patients[patient] = self._executor.submit(self._pairs.patient, patient, self._device)

    def _shuffle(self, round_: int) -> list[int]:
        order: list[int] = random_at(self._pairs.config.seed, Stream.PASS_A, round_).permutation(self._slices).tolist()
        return order


def _batch(drawn: _Drawn, sampling: Sampling, step: int) -> tuple[torch.Tensor, ...]:
    """Return ``input_A``, ``input_B``, ``target_A``, ``target_B`` and, if there are any, the weights, float32."""
    share = sampling.batch_size // sampling.world
    first = step * sampling.batch_size + sampling.rank * share
    samples = []
    for i in range(first, first + share):
        mirrored = random_at(sampling.seed, Stream.SAMPLE, i).random() < sampling.flip_probability
        images = drawn.sample(i)
        samples.append(images.flip(3) if mirrored else images)
    images = torch.stack(samples, dim=1).float()
    return tuple(images)


def _start_worker() -> None:
    """Set up a process that generates patients: one thread, and an exit together with the training."""
    torch.set_num_threads(1)
    # A signal to all processes of a job must not end this process before the training has saved its checkpoint.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_training, daemon=True).start()


def _end_with_the_training() -> None:
    """End this process when the training process has ended, even if that was killed."""
    training = multiprocessing.parent_process()
    if training is not None:
        training.join()
        os._exit(1)


def _counted(maps: int) -> str:
    return f"{maps} label map{'' if maps == 1 else 's'}"
