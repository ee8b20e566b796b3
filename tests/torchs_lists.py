"""torch's own lists for its own tests, which import a package that nothing of these lists needs."""

import importlib.util
import sys
import types
import unittest
import warnings


def _stand_in():
    if "expecttest" not in sys.modules and importlib.util.find_spec("expecttest") is None:
        sys.modules["expecttest"] = types.ModuleType("expecttest")
        sys.modules["expecttest"].TestCase = unittest.TestCase


def operators():
    """torch's database of operators."""
    _stand_in()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return op_db


def optimizers():
    """torch's list of optimizers, with options for each."""
    _stand_in()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_optimizers import optim_db
    return optim_db
