"""What all tests share: one CPU thread, written axes, reproducible property tests."""

import os
import sys
from pathlib import Path

# Where `make test` puts PyTorch, which processes that tests start do without, as most users' do.
sys.path.append(str(Path(sys.prefix, "torch")))

# Before jax is imported: tests run on one core and never take an accelerator.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import jax  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("segue", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("segue")
