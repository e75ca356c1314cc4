"""A pytest plugin (`-p preloaded_kernels`): the tests run on the compiled kernels that SSLPRUNE_TEST_KERNELS names."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

_NAME = "sslprune.runtime._kernels"

# Before any test asks which sets of instructions there are.
_spec = spec_from_file_location(_NAME, os.environ["SSLPRUNE_TEST_KERNELS"])
assert _spec is not None
assert _spec.loader is not None
sys.modules[_NAME] = module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[_NAME])
