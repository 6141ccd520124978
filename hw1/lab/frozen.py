"""The last import of the server: what it has imported stays, and needs no look by the collector.

Otherwise each process that is forked from it would look through all of PyTorch's objects now and
then, would thereby get a copy of their memory, and would do so once more at its end.
"""

import gc

gc.freeze()
