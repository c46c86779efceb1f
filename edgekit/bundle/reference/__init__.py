"""A bundled model without edgekit: ``Model.load(folder).predict(raw)`` and ``self_test(folder)``.

edgekit checks with this package that what it writes into a bundle can be read, and copies it as it is into bundles for
Python. It imports nothing of edgekit.
"""

from .model import Model
from .testing import self_test

__all__ = ["Model", "self_test"]
