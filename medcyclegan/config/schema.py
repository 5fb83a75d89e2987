"""Schema of the configuration: each field with its unit, range, default and docstring.

The numbers of the ``ct-mr`` and ``t1-t2`` recipes follow Zhu et al. 2017 (arXiv 1703.10593) and Isola et al. 2017
(arXiv 1611.07004).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "Config",
    "Discriminator",
    "Domain",
    "Generator",
    "Losses",
    "Networks",
    "Pretraining",
    "Scaling",
    "Slicing",
    "Training",
    "Validation",
]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _switch(value: object) -> object:
    """Return ``on`` or ``off`` for a boolean, which is what YAML reads for a bare ``on`` or ``off``."""
    return ("on" if value else "off") if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class _Section(BaseModel):
    """A section of the configuration: frozen, without unknown keys, every field documented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Slicing(_Section):
    """How volumes are cut into axial slices."""

    size: Annotated[int, Field(ge=32, le=2048, multiple_of=4)] = 256
    """Rows and columns of a slice, in pixels; a multiple of 4 (of 256 for a ``unet`` of 8 levels, of 32 for a
    ``subpixel_unet``)."""
    fit: Literal["physical", "stretch"] = "physical"
    """``physical``: resample to ``pixel_mm``, then pad or crop to ``size``; ``stretch``: resize to ``size``."""
    pixel_mm: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    """Pixel size in mm to which ``physical`` resamples the slices of all domains."""
    foreground: Fraction = 0.02
    """Smallest fraction of foreground in a slice that is kept."""
    registration: bool = False
    """Bring volumes of one patient in different domains onto one grid, by a rigid registration that is checked."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the store; float16 is accurate to half a HU for windows up to 4096 HU."""
    validation_fraction: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Fraction of a domain's patients held out for validation (at least one if there are 5 or more, unless 0)."""
    test_fraction: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Fraction of a domain's patients held out for testing (at least one if there are 5 or more, unless 0)."""


class Scaling(_Section):
    """How the values of a domain are scaled to [-1, 1]: a window for CT, else percentiles of the foreground."""

    window_hu: tuple[float, float] = (-1024.0, 3071.0)
    """CT: the HU that are mapped to -1 and 1."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """MR: the percentiles of a volume's foreground that are mapped to -1 and 1."""

    @model_validator(mode="after")
    def _ascending(self) -> Scaling:
        for name, (lower, upper) in (("window_hu", self.window_hu), ("percentiles", self.percentiles)):
            if not lower < upper:
                raise ValueError(f"{name} [{lower:g}, {upper:g}] must ascend")
        if self.window_hu[0] < -32768 or self.window_hu[1] > 32767:
            raise ValueError("window_hu must lie within -32768 and 32767, because a CT is written as 16-bit integers")
        return self


class Domain(_Section):
    """One side of the translation, such as ``ct`` or ``t1``."""

    modality: Literal["CT", "MR"] | None = None
    """``CT`` or ``MR``, if files do not state it; null: CT for a domain's name such as ``head_ct``, else MR."""
    scaling: Scaling = Scaling()
    """How its values are scaled to [-1, 1]."""


class Generator(_Section):
    """The network that translates a slice."""

    kind: Literal["resnet", "unet", "subpixel_unet"] = "resnet"
    """``resnet``: Johnson et al. 2016 as in CycleGAN; ``unet``: as in pix2pix; ``subpixel_unet``: a U-Net at
    half the resolution with a sub-pixel convolution (Shi et al. 2016), which is faster than ``resnet``."""
    filters: Annotated[int, Field(ge=2, le=512)] = 64
    """Channels of the first layer."""
    blocks: Annotated[int, Field(ge=1, le=30)] | None = None
    """Number of residual blocks of the ``resnet``; null: 9, or 6 for slices of at most 128 pixels."""
    upsampling: Literal["transposed", "resize"] = "transposed"
    """``transposed``: as published; ``resize``: nearest neighbor and a convolution, without checkerboard artifacts (the
    last layer of a ``subpixel_unet`` is a sub-pixel convolution in any case)."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Dropout in the three deepest up-blocks of the ``unet``; not used by the other kinds."""


class Discriminator(_Section):
    """The network that distinguishes real slices from fakes."""

    kind: Literal["patch", "classifier"] = "patch"
    """``patch``: PatchGAN, a map of logits; ``classifier``: one logit per image."""
    filters: Annotated[int, Field(ge=2, le=512)] = 64
    """Channels of the first layer."""
    layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Number of strided layers of the ``patch`` network: 3 gives a receptive field of 70 x 70 pixels."""
    augmentation: Fraction = 0.0
    """Probability that an image is warped before a discriminator sees it: shifted, rotated, scaled, and partly covered
    (Zhao et al. 2020, Karras et al. 2020). A discriminator then cannot memorize a few patients. 0 disables it."""


class Networks(_Section):
    """The four networks: two generators and two discriminators."""

    generator: Generator = Generator()
    """Both generators, G_AB and G_BA."""
    discriminator: Discriminator = Discriminator()
    """Both discriminators, D_A and D_B."""


class Losses(_Section):
    """The terms of the objective and their weights (Zhu et al. 2017, equations 1 to 3 and section 5.2)."""

    adversarial: Literal["lsgan", "log"] = "lsgan"
    """``lsgan``: least squares; ``log``: binary cross-entropy on logits, with the non-saturating generator term."""
    adversarial_weight: Weight = 1.0
    """Weight of the adversarial term in the generators' loss."""
    discriminator_weight: Weight = 0.5
    """Weight of the discriminators' loss: with 0.5 they learn at half the rate of the generators."""
    cycle_weight: Weight = 10.0
    """Weight of the L1 cycle-consistency term, lambda in the paper."""
    identity_weight: Weight = 5.0
    """Weight of the L1 identity term; 0 skips its two passes."""
    structure: Literal["none", "gradient", "lncc", "mutual_information"] = "none"
    """Loss that ties the structure of a fake to its input: ``gradient``: normalized gradient fields, regardless of sign
    (Haber and Modersitzki 2006); ``lncc``: squared local correlation; ``mutual_information``; ``none``: no loss."""
    structure_weight: Weight = 1.0
    """Weight of the structure term, if there is one; a large weight preserves the contrast of the input."""
    mask_weight: Weight = 0.0
    """Weight of the difference between the head masks of a fake and of its input, computed from the images at an eighth
    of the resolution (after MaskGAN, Phan et al. 2023, arXiv 2307.16143); 0 disables it."""
    paired_weight: Weight = 0.0
    """Weight of the L1 difference between a fake and its true target, in pairs of slices of the training patients that
    have both domains on one grid (as in pix2pix, Isola et al. 2017); each step adds ``training.batch_size`` pairs to
    the unpaired slices. 0 disables it."""


class Training(_Section):
    """The optimization and its outputs."""

    epochs: Count = 200
    """Passes over the larger domain; an epoch is max(|A|, |B|) / batch_size steps."""
    max_steps: Count | None = None
    """Total number of steps; if set, it replaces ``epochs``."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 1
    """Slices of each domain per step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-4
    """Adam's step size for all four networks."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    """Adam's momentum terms."""
    schedule: Literal["linear", "constant"] = "linear"
    """``linear``: the rate decreases to 0 over the second half; ``constant``: it does not change."""
    flip_probability: Fraction = 0.5
    """Probability that a slice is mirrored left to right, drawn separately for A and B."""
    pairing: Literal["uniform", "height"] = "uniform"
    """``uniform``: a slice of A with any slice of B; ``height``: with one of about the same relative height."""
    pool_size: Annotated[int, Field(ge=0, le=10000)] = 50
    """Number of past fakes that may be shown to each discriminator again (Shrivastava et al. 2017); 0: off."""
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = None
    """Largest norm of the gradient, for the generators and for the discriminators; null: no clipping."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of the exponential moving average of the generators' weights, e.g. 0.999; panels, validation and the model
    then use the average. null: the weights of the last step."""
    slices_on_device: Switch = "auto"
    """Whether the slices are kept in the memory of the device: ``auto``: on CUDA, if they take at most a quarter of the
    free memory; ``on``: always, an error if they do not fit (on a CPU: in memory); ``off``: memory-mapped files."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """``auto``: bf16 if the device supports it, fp16 with a loss scaler on older CUDA devices, else fp32."""
    compile: Switch = "auto"
    """Whether the networks are compiled (``torch.compile``): ``auto``: in runs that are long enough to benefit; ``on``:
    always, an error if that is not possible; ``off``: never."""
    cuda_graphs: Switch = "auto"
    """Whether the kernels of a step are recorded once and replayed, so that the host need not launch each of them:
    ``auto``: on one CUDA device with enough memory, without the loss scaler of fp16; ``on``: always, an error if that
    is not possible; ``off``: never."""
    memory_check: Annotated[Literal["on", "off"], BeforeValidator(_switch)] = "on"
    """Whether a run is refused before its first step if it is estimated to need more memory than is free."""
    panel_every: Count = 100
    """Steps between panels, the pictures of the training."""
    log_every: Count = 20
    """Steps between rows of metrics.jsonl: the means over these steps."""
    checkpoint_epochs: Annotated[float, Field(gt=0.0)] = 5.0
    """Epochs between checkpoints."""
    checkpoint_steps: Count | None = None
    """Steps between checkpoints; if set, it replaces ``checkpoint_epochs``."""
    keep_last: Count = 2
    """Number of most recent checkpoints that are kept."""

    @field_validator("max_steps", "checkpoint_steps", mode="before")
    @classmethod
    def _no_booleans(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        return value


class Validation(_Section):
    """What is measured on held-out slices during a run."""

    every_epochs: Annotated[float, Field(gt=0.0)] = 5.0
    """Epochs between validations."""
    every_steps: Count | None = None
    """Steps between validations; if set, it replaces ``every_epochs``."""
    slices: Count = 32
    """Number of held-out slices of each domain that are used, evenly spaced; if there are patients with both domains on
    one grid, the same slices of both domains."""
    key_metric: Literal["sliced_wasserstein", "histogram", "cycle", "mae", "psnr", "ssim"] = "sliced_wasserstein"
    """Metric that selects the best checkpoint, which becomes the model; a mean over both directions.
    ``sliced_wasserstein``: distance between patches of synthetic and of real slices; ``histogram``: distance between
    their intensities; ``cycle``: the cycle error, which alone is a poor criterion; ``mae``, ``psnr``, ``ssim``: inside
    the head, for true pairs."""

    @field_validator("every_steps", mode="before")
    @classmethod
    def _no_booleans(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        return value


class Pretraining(_Section):
    """Settings of ``pretrain``: the patients that it generates, and the loss between fakes and their targets.

    Of the section ``losses``, ``pretrain`` uses only ``adversarial`` and ``discriminator_weight``, and these only if
    ``adversarial_weight`` is above 0; of the section ``training``, it uses everything except ``pairing``.
    """

    l1_weight: Weight = 1.0
    """Weight of the mean absolute difference between a fake and its target, in the scaled range [-1, 1]."""
    gradient_weight: Weight = 1.0
    """Weight of the mean absolute difference between their image gradients, which keeps edges sharp; 0 disables it."""
    ssim_weight: Weight = 0.0
    """Weight of 1 - SSIM; 0 disables it."""
    adversarial_weight: Weight = 0.0
    """Weight of the adversarial term; with 0 the discriminators are neither run nor trained."""
    targets: Literal["standard", "clean", "scan"] = "standard"
    """The images with which fakes are compared. ``standard``: each contrast with the same protocol for all patients,
    without noise, bias field and streaks, so that the contrast of outputs does not depend on chance. ``clean``: with
    the protocol of the patient, also without noise, bias field and streaks. ``scan``: as scanned, like the inputs.
    Pairs in a slice store are used without changes."""
    slices_per_patient: Annotated[int, Field(ge=1, le=1024)] = 48
    """Number of slices that are cut from each synthetic patient, at random heights. With more slices, each takes less
    time."""
    patients_at_once: Annotated[int, Field(ge=1, le=256)] = 8
    """Number of patients whose slices are mixed."""
    lesion_fraction: Fraction = 0.6
    """Fraction of the patients that have lesions."""
    lesion_weight: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Additional weight of pixels in lesions in the mean absolute difference, which lesions otherwise hardly change,
    because they are small; with 0 they count like all others. Pairs in a slice store have no known lesions."""
    extracted_fraction: Fraction = 0.0
    """Fraction of the patients whose brain is extracted (skull-stripped)."""
    metal_fraction: Fraction = 0.06
    """Fraction of the patients that have metal in their teeth."""
    reference_patients: Annotated[int, Field(ge=1, le=1000)] = 6
    """Number of patients that are generated before the first step. Their slices represent the training set: they
    determine the output scaling and histograms in ``model.json``, and the length of an epoch."""
    validation_patients: Annotated[int, Field(ge=0, le=1000)] = 2
    """Number of patients that are generated before the first step and held out for validation."""
    key_metric: Literal["mae", "psnr", "ssim", "sliced_wasserstein", "histogram", "cycle"] = "mae"
    """Metric that selects the best checkpoint, instead of ``validation.key_metric``, because true pairs allow a better
    metric."""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Number of processes that generate patients ahead of the training on a CPU; with 0, a thread of the training
    process generates them. On a CUDA device, a thread generates them on the device."""

    @model_validator(mode="after")
    def _has_a_loss(self) -> Pretraining:
        if not any((self.l1_weight, self.gradient_weight, self.ssim_weight, self.adversarial_weight)):
            raise ValueError("all weights are 0, so there is nothing to minimize: set l1_weight above 0")
        if self.lesion_weight and not self.l1_weight:
            raise ValueError("lesion_weight has no effect with l1_weight 0: set l1_weight above 0, or leave it out")
        return self


class Config(_Section):
    """Everything that determines a run, except its data."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of every random choice."""
    slicing: Slicing = Slicing()
    """How volumes are cut into slices."""
    domains: dict[str, Domain] = {}
    """Settings of each domain, by the name of the domain (that of its folder)."""
    networks: Networks = Networks()
    """The generators and the discriminators."""
    losses: Losses = Losses()
    """The loss terms."""
    training: Training = Training()
    """The optimization."""
    validation: Validation = Validation()
    """What is measured on held-out slices."""
    pretraining: Pretraining = Pretraining()
    """How ``pretrain`` differs from ``train``."""
