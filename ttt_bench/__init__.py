"""ttt-bench: test-time training methods on identical inputs, under one protocol, with their cost.

The public names are listed once, in `__init__.pyi`; they are all that a plugin imports. They load
on first use, so that importing `ttt_bench` stays instant: torch waits until a method runs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
