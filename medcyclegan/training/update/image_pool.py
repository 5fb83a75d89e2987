"""A pool of past fakes for the discriminators (Shrivastava et al. 2017, arXiv 1612.07828, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch

from medcyclegan.data import Stream, random_at

__all__ = ["ImagePool"]


class ImagePool:
    """Replaces, half of the time, the newest fake that a discriminator sees by a past one.

    ``size`` images in all, divided evenly (rounded up) among the ``batch_size`` places of a batch. Each place has a
    separate pool, so several processes that divide a batch use the same pools as one process. Which image is exchanged
    is a pure function of ``(seed, stream, step, place)``; only the images are state. ``first_place``: the place of this
    process's first image in the whole batch; ``places``: the number of places of this process (default: the whole
    batch).
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, stream: Stream, *, first_place: int = 0, places: int | None = None
    ) -> None:
        self._capacity = -(-size // batch_size)
        self._batch_size = batch_size
        self._first_place = first_place
        self._places = batch_size if places is None else places
        self._seed = seed
        self._stream = stream
        self._images: list[torch.Tensor] = []

    def exchange(self, fakes: torch.Tensor, step: int) -> torch.Tensor:
        """Return the fakes that the discriminator sees together with the reals of ``step``, counted from 0.

        ``fakes`` ``(N, 1, H, W)``, detached. Until the pools are full, fakes are stored and returned;
        then each is returned or exchanged for a stored one, with equal probability.
        """
        if self._capacity == 0:
            return fakes
        if len(self._images) < self._capacity:
            self._images.append(fakes.clone())
            return fakes
        shown = fakes.clone()
        for place in range(len(fakes)):
            random = random_at(self._seed, self._stream, step * self._batch_size + self._first_place + place)
            if random.random() < 0.5:
                stored = self._images[int(random.integers(self._capacity))]
                shown[place].copy_(stored[place])
                stored[place].copy_(fakes[place])
        return shown

    def state_dict(self) -> dict[str, Any]:
        """Return the stored images, a list of ``(N, 1, H, W)``."""
        return {"images": list(self._images)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore this process's part of the images of the whole batch, a list of ``(batch, 1, H, W)``."""
        share = slice(self._first_place, self._first_place + self._places)
        self._images = [images[share].to(device) for images in state["images"]]
