"""Sphinx: ``python -m sphinx docs build`` in an environment with the dependency group ``docs``."""

from __future__ import annotations

import ooclearn

project = "ooclearn"
author = "the ooclearn developers"
release = version = ooclearn.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
html_theme = "alabaster"
exclude_patterns = ["build"]
numpydoc_show_class_members = False
# Links to headings, as the pages use them on a code host too.
myst_heading_anchors = 3
