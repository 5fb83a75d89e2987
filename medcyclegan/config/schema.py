"""The configuration: what can be chosen, its unit, its range and its default, one docstring a field.

Numbers of the ``ct-mr`` and ``t1-t2`` recipes
follow Zhu et al. 2017 (arXiv 1703.10593) and Isola et al. 2017 (arXiv 1611.07004).
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
    "Scaling",
    "Slicing",
    "Training",
    "Validation",
]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _switch(value: object) -> object:
    """Return what a bare ``on`` or ``off`` means, which YAML reads as true or false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class _Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, every field documented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Slicing(_Section):
    """How a volume becomes axial slices."""

    size: Annotated[int, Field(ge=32, le=2048, multiple_of=4)] = 256
    """Rows and columns of a slice, in pixels; a multiple of 4 (of 256 where a U-Net of 8 levels reads it)."""
    fit: Literal["physical", "stretch"] = "physical"
    """``physical``: brought to ``pixel_mm``, then padded or cut to ``size``; ``stretch``: resized to ``size``."""
    pixel_mm: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    """Pixel size in mm that ``physical`` brings every slice of every domain to."""
    foreground: Fraction = 0.02
    """The least share of a slice that must be foreground for it to be kept."""
    dtype: Literal["float16", "float32"] = "float16"
    """The number format of the store; float16 is within half a HU for windows up to 4096 HU."""
    validation_fraction: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Share of a domain's patients held out for validation (at least one from 5 patients on, unless 0)."""
    test_fraction: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.1
    """Share of a domain's patients held out for testing (at least one from 5 patients on, unless 0)."""


class Scaling(_Section):
    """How a domain's values map to [-1, 1]: a window for CT, percentiles of the foreground otherwise."""

    window_hu: tuple[float, float] = (-1024.0, 3071.0)
    """CT: the HU that become -1 and 1."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """MR: the percentiles of a volume's foreground that become -1 and 1."""

    @model_validator(mode="after")
    def _ascending(self) -> Scaling:
        for name, (lower, upper) in (("window_hu", self.window_hu), ("percentiles", self.percentiles)):
            if not lower < upper:
                raise ValueError(f"{name} [{lower:g}, {upper:g}] must ascend")
        if self.window_hu[0] < -32768 or self.window_hu[1] > 32767:
            raise ValueError("window_hu must lie within -32768 and 32767, for a CT is written as 16-bit integers")
        return self


class Domain(_Section):
    """One side of the translation, such as ``ct`` or ``t1``."""

    modality: Literal["CT", "MR"] | None = None
    """``CT`` or ``MR``, if files do not state it; null: CT for a domain's name such as ``head_ct``, else MR."""
    scaling: Scaling = Scaling()
    """How its values map to [-1, 1]."""


class Generator(_Section):
    """The network that translates a slice."""

    kind: Literal["resnet", "unet", "identity"] = "resnet"
    """``resnet``: Johnson et al. 2016 as in CycleGAN; ``unet``: that of pix2pix; ``identity``: nothing to train, for
    acceptance tests: what a translation by it changes is owed to geometry and intensity alone."""
    filters: Annotated[int, Field(ge=2, le=512)] = 64
    """Channels of the first layer."""
    blocks: Annotated[int, Field(ge=1, le=30)] | None = None
    """Residual blocks of the ``resnet``; null: 9, or 6 for slices of at most 128 pixels."""
    upsampling: Literal["transposed", "resize"] = "transposed"
    """``transposed``: as published; ``resize``: nearest neighbour and a convolution, free of checkerboards."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Dropout in the three deepest up-blocks of the ``unet``; the ``resnet`` has none."""
    context_slices: Literal[1, 3, 5] = 1
    """Slices that a generator reads and translates at once, as channels: one alone, or one between its neighbours
    (2.5-D). Discriminators see all of them; translation keeps the middle one."""


class Discriminator(_Section):
    """The network that tells real slices from fakes."""

    kind: Literal["patch", "classifier"] = "patch"
    """``patch``: PatchGAN, a map of logits; ``classifier``: one logit an image."""
    filters: Annotated[int, Field(ge=2, le=512)] = 64
    """Channels of the first layer."""
    layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Strided layers of the ``patch`` network: 3 sees 70 x 70 pixels."""


class Networks(_Section):
    """The four networks: two generators and two discriminators of these kinds."""

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
    """Factor of the discriminators' loss: halved, they learn at half the generators' rate."""
    cycle_weight: Weight = 10.0
    """Weight of the L1 cycle-consistency term, lambda in the paper."""
    identity_weight: Weight = 5.0
    """Weight of the L1 identity term; 0 leaves its two passes out."""
    structure: Literal["none", "gradient", "lncc", "mutual_information"] = "none"
    """What ties a fake's structure to its input: ``gradient``: normalised gradient fields, whatever their sign (Haber
    and Modersitzki 2006); ``lncc``: squared local correlation; ``mutual_information``; ``none``: the cycle alone."""
    structure_weight: Weight = 1.0
    """Weight of the structure term, where there is one: a strong one holds on to the input's contrast."""


class Training(_Section):
    """The optimisation and what it leaves behind."""

    epochs: Count = 200
    """Passes over the larger domain; an epoch is max(|A|, |B|) / batch_size steps."""
    max_steps: Count | None = None
    """Steps in all; where set, it replaces ``epochs``."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 1
    """Slices of each domain a step, over all processes."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-4
    """Adam's step size for all four networks."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    """Adam's momentum terms."""
    schedule: Literal["linear", "constant"] = "linear"
    """``linear``: the rate falls to 0 over the second half; ``constant``: it stays."""
    flip_probability: Fraction = 0.5
    """Chance that a slice is mirrored left to right, drawn for A and B apart."""
    pairing: Literal["uniform", "height"] = "uniform"
    """``uniform``: any slice of B beside a slice of A; ``height``: one from about the same relative height."""
    pool_size: Annotated[int, Field(ge=0, le=10000)] = 50
    """Past fakes that each discriminator may be shown again (Shrivastava et al. 2017); 0 turns it off."""
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = None
    """The largest norm of the generators' gradient, and of the discriminators'; null: as it comes."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the generators' running mean that stays at each step, e.g. 0.999; the means are then what panels and
    validation look at and what becomes the model. null: the weights of the last step."""
    slices_on_device: Switch = "auto"
    """Whether the slices lie in the device's memory: ``auto``: on CUDA, where they take at most a quarter of what is
    free; ``on``: there, or not at all (on a CPU: in memory); ``off``: memory-mapped files."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """``auto``: bf16 where the device computes it, fp16 with a loss scaler on older CUDA, else fp32. ``fp64`` is for
    tests: several processes give the weights of one only where rounding does not grow."""
    compile: Switch = "auto"
    """Whether the networks are compiled (``torch.compile``): ``auto``: for runs long enough to pay for it; ``on``:
    always, or not at all; ``off``: never."""
    cuda_graphs: Switch = "auto"
    """Whether a step's kernels are recorded once and replayed, which spares the host starting each of them: ``auto``:
    on one CUDA device that has room for it, without fp16's loss scaler; ``on``: so, or not at all; ``off``: never."""
    memory_check: Annotated[Literal["on", "off"], BeforeValidator(_switch)] = "on"
    """Whether a training that is estimated to need more memory than is free is refused before its first step."""
    panel_every: Count = 100
    """Steps between pictures of the training."""
    log_every: Count = 20
    """Steps between rows of metrics.jsonl: the means over these steps."""
    checkpoint_epochs: Annotated[float, Field(gt=0.0)] = 5.0
    """Epochs between checkpoints."""
    checkpoint_steps: Count | None = None
    """Steps between checkpoints; where set, it replaces ``checkpoint_epochs``."""
    keep_last: Count = 2
    """Checkpoints kept: the last ones."""

    @field_validator("max_steps", "checkpoint_steps", mode="before")
    @classmethod
    def _no_booleans(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        return value


class Validation(_Section):
    """What is measured on the held-out slices while a run goes on."""

    every_epochs: Annotated[float, Field(gt=0.0)] = 5.0
    """Epochs between validations."""
    every_steps: Count | None = None
    """Steps between validations; where set, it replaces ``every_epochs``."""
    slices: Count = 32
    """Held-out slices of each domain that are looked at, evenly spaced; of patients with both domains on one grid,
    where there are any, the same slices of both."""
    key_metric: Literal["sliced_wasserstein", "histogram", "cycle", "mae", "psnr", "ssim"] = "sliced_wasserstein"
    """By which the best checkpoint is chosen, which becomes the model; a mean over both directions. The distance of
    patches of synthetic slices from those of real ones; of their intensities; the cycle error, which alone is a poor
    judge; and, for true pairs, MAE, PSNR or SSIM inside the head."""

    @field_validator("every_steps", mode="before")
    @classmethod
    def _no_booleans(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        return value


class Config(_Section):
    """All that a run is determined by, beside its data."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of every random choice."""
    slicing: Slicing = Slicing()
    """How volumes become slices."""
    domains: dict[str, Domain] = {}
    """What is known of a domain, by its name (its folder's name)."""
    networks: Networks = Networks()
    """The generators and the discriminators."""
    losses: Losses = Losses()
    """The objective."""
    training: Training = Training()
    """The optimisation."""
    validation: Validation = Validation()
    """What is measured on held-out slices."""
