"""Imported last by the server, to exclude all objects so far from garbage collection.

Otherwise, in each process that is forked from the server, the garbage collector would visit all of
PyTorch's objects from time to time and once more at the end, and each visit would copy the memory
of these objects into the process.
"""

import gc

gc.freeze()
