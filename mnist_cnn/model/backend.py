"""The only module that configures and imports TensorFlow and Keras.

Results depend on the kernels that TensorFlow picks. By default it uses oneDNN only on newer CPUs,
with their newest instructions. With oneDNN everywhere, limited to AVX2 (available on x86-64 CPUs
for ten years), all CPUs round alike. Training on a CPU with AVX-512 then takes 1.2 times as long
(median of 3). GPUs round differently, so only those named in CUDA_VISIBLE_DEVICES are used.
"""

import gc
import os
import sys

from mnist_cnn.errors import suppress_stderr

KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}

if "tensorflow" in sys.modules and not KERNELS.items() <= os.environ.items():
    settings = " ".join(f"{name}={value}" for name, value in KERNELS.items())
    raise ImportError(
        f"TensorFlow was imported before {__name__} and without its settings, so results would "
        f"differ: import {__name__} first, or set {settings} before Python starts"
    )
os.environ.update(KERNELS)
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What is imported here is never freed. Looking for garbage in it would take 1.5 s of 4.3 s, mostly
# at exit.
# Warnings about missing GPUs ignore the log level
# (https://github.com/tensorflow/tensorflow/issues/100442).
gc.disable()
with suppress_stderr():
    import keras
    import tensorflow as tf
gc.freeze()
gc.enable()

# https://www.tensorflow.org/api_docs/python/tf/config/experimental/enable_op_determinism
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(1)  # the order of sums depends on it

__all__ = ["keras", "set_seed", "tf"]


def set_seed(seed: int) -> None:
    """Set Keras' random seed and reset its layer names, so that networks built from now on don't
    depend on earlier ones."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
