"""The adapters that ship with ooclearn, one array library a module.

Each module holds one object, ``BACKEND``, that keeps the protocol :class:`ooclearn.backend.Backend`. They are
found by the entry point group ``ooclearn.backends``, as a stranger's are: the core never imports them.
"""
