"""Keep Python's garbage collector from stalling the event loop.

A full pass looks at every object that there is. Modules, types and routes are some hundred thousand
that live as long as the process: to look at them takes a tenth of a second, in which nobody is
answered, and finds nothing.
"""

import gc


def leave_out_what_is_there() -> None:
    """Let full passes look only at what is made from now on; called once, when all is loaded."""
    gc.collect()
    gc.freeze()
