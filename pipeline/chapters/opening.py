"""What the first code cell of a chapter takes, in one line:

    from pipeline.chapters.opening import Markdown, Notebook, opened, pd, plots, plt

It loads no PyTorch; a chapter that trains takes `open_study` from `pipeline.chapters.experiment`, too.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown

from pipeline.chapters import plots
from pipeline.chapters.comparisons import compare, each_with
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import public_versions, readable

__all__ = ["Markdown", "Notebook", "compare", "each_with", "np", "opened", "pd", "plots", "plt", "readable"]


def opened() -> None:
    """Set the style of figures and print the versions of the libraries that compute."""
    plots.style()
    print(public_versions().replace(" ", "\n"))
