"""The pool of past fakes: what it returns, what it stores, and that its state can be restored."""

import pytest
import torch

from medcyclegan.data import Stream
from medcyclegan.training.update.image_pool import ImagePool


def image(number: int) -> torch.Tensor:
    return torch.full((1, 1, 2, 2), float(number))


def show(pool: ImagePool, steps: range) -> list[int]:
    return [int(pool.exchange(image(step), step)[0, 0, 0, 0]) for step in steps]


def test_the_first_fakes_are_stored_and_shown() -> None:
    assert show(ImagePool(5, 1, seed=0, stream=Stream.POOL_A), range(5)) == [0, 1, 2, 3, 4]


def test_half_of_the_later_ones_are_exchanged_for_past_ones() -> None:
    shown = show(ImagePool(50, 1, seed=0, stream=Stream.POOL_A), range(2000))
    newest = sum(number == step for step, number in enumerate(shown))
    assert 0.45 < (newest - 50) / 1950 < 0.55
    assert all(number <= step for step, number in enumerate(shown))
    assert len({number for step, number in enumerate(shown) if number != step}) > 900
    ages = [step - number for step, number in enumerate(shown) if number != step]
    assert 70 < sum(ages) / len(ages) < 130  # 50 places, each exchanged at one step of 100


def test_an_image_is_shown_once_as_new_or_once_as_past() -> None:
    shown = show(ImagePool(10, 1, seed=1, stream=Stream.POOL_A), range(500))
    first_ten_again = [n for n in shown[10:] if n < 10]
    assert len(first_ten_again) == len(set(first_ten_again))
    later = [n for n in shown if n >= 10]
    assert len(later) == len(set(later))


def test_size_zero_turns_it_off() -> None:
    pool = ImagePool(0, 1, seed=0, stream=Stream.POOL_A)
    fakes = image(3)
    assert pool.exchange(fakes, 0) is fakes
    assert pool.state_dict() == {"images": []}


def test_choices_depend_on_seed_stream_and_step_alone() -> None:
    def run(seed: int, stream: Stream) -> list[int]:
        return show(ImagePool(5, 1, seed=seed, stream=stream), range(60))

    assert run(0, Stream.POOL_A) == run(0, Stream.POOL_A)
    assert run(0, Stream.POOL_A) != run(0, Stream.POOL_B)
    assert run(0, Stream.POOL_A) != run(1, Stream.POOL_A)


def test_a_restored_pool_continues_as_if_nothing_had_happened() -> None:
    whole = ImagePool(5, 1, seed=0, stream=Stream.POOL_A)
    expected = show(whole, range(40))
    for cut in (3, 5, 17):
        before = ImagePool(5, 1, seed=0, stream=Stream.POOL_A)
        first = show(before, range(cut))
        after = ImagePool(5, 1, seed=0, stream=Stream.POOL_A)
        after.load_state_dict(before.state_dict(), torch.device("cpu"))
        assert first + show(after, range(cut, 40)) == expected


@pytest.mark.parametrize(("first_place", "expected"), [(0, [0, 1]), (2, [2, 3]), (4, [4, 5])])
def test_a_process_restores_its_places_of_a_stored_pool(first_place: int, expected: list[int]) -> None:
    images = [torch.arange(6.0).reshape(6, 1, 1, 1) + 10 * number for number in range(3)]
    pool = ImagePool(18, 6, 0, Stream.POOL_A, first_place=first_place, places=2)
    pool.load_state_dict({"images": images}, torch.device("cpu"))
    restored = [stored.flatten().tolist() for stored in pool.state_dict()["images"]]
    assert restored == [[place + 10 * number for place in expected] for number in range(3)]


def test_what_is_stored_and_what_is_shown_share_no_memory_with_the_fakes() -> None:
    pool = ImagePool(1, 1, seed=0, stream=Stream.POOL_A)
    fakes = image(7)
    pool.exchange(fakes, 0)
    fakes.zero_()
    assert float(pool.state_dict()["images"][0].max()) == 7


def test_processes_that_share_a_batch_meet_the_pools_of_one() -> None:
    whole = ImagePool(8, 4, seed=0, stream=Stream.POOL_A)
    shares = [ImagePool(8, 4, seed=0, stream=Stream.POOL_A, first_place=2 * rank) for rank in (0, 1)]
    for step in range(30):
        fakes = torch.arange(4.0).reshape(4, 1, 1, 1) + 10 * step
        expected = whole.exchange(fakes, step)
        parts = [share.exchange(fakes[2 * rank : 2 * rank + 2], step) for rank, share in enumerate(shares)]
        assert torch.equal(torch.cat(parts), expected)
    assert len(whole.state_dict()["images"]) == 2  # 8 images over 4 places
