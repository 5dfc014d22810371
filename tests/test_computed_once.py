"""What is computed when it is asked for: once, and by all replicas at the same time."""

import threading

from keras_gflv2.computed_once import computed_once


class Replica:
    def __init__(self, meet=lambda: 1):
        self.meet, self.calls = meet, 0

    @computed_once
    def total(self):
        """Of all replicas."""
        self.calls += 1
        return self.meet()


def test_it_is_computed_once_per_object():
    one, other = Replica(), Replica(lambda: 2)
    assert [one.total, one.total, other.total] == [1, 1, 2]
    assert one.calls == 1 and Replica.total.__doc__ == "Of all replicas."


def test_replicas_can_wait_for_each_other_inside():
    """As in a sum over replicas, each in a thread of its own."""
    barrier = threading.Barrier(2)
    replicas = [Replica(lambda: barrier.wait(timeout=10)) for _ in range(2)]
    threads = [threading.Thread(target=lambda r=r: r.total) for r in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replica.total for replica in replicas) == [0, 1]
