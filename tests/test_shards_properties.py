"""Property of shards: each item belongs to exactly one shard."""

from hypothesis import given
from hypothesis import strategies as st

from medcyclegan.shards import choose_shard, share_of


@given(items=st.lists(st.integers(), max_size=60), number=st.integers(1, 20))
def test_shards_share_all_of_it_evenly(items, number):
    shares = [share_of(items, choose_shard(number, shard)) for shard in range(number)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [item for group in range(len(shares[0])) for share in shares for item in share[group : group + 1]] == items
