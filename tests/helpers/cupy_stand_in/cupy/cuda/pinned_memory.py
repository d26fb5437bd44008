"""Page-locked memory of the host."""

import gpu_stand_in as stand_in

from cupy.cuda.runtime import CUDARuntimeError


class PinnedMemoryPool:
    def malloc(self, size):
        return alloc_pinned_memory(size)

    def free_all_blocks(self):
        stand_in.pinned.free_all()

    def n_free_blocks(self):
        return sum(map(len, stand_in.pinned.free.values()))


def alloc_pinned_memory(size):
    found = stand_in.pinned.get(size)
    if found is None:
        raise CUDARuntimeError(2)
    return found
