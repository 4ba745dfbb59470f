"""One thread while a small network is trained or evaluated; afterwards the user's numbers of threads are back.

Torch and NumPy's BLAS use a thread per core by default. A gradient step of a small network is so short that the
threads mostly wait for each other: on two idle cores, PPO took nearly twice the wall time and more than three times
the CPU time of one thread, and more on a busy machine. So `rlce.trainer.Trainer.fit` (all training),
`rlce.evaluate_policy` and the predictions of estimators use one thread for small work, and leave large work alone.
`rlce.PolicyGradient.predict` changes nothing: one observation is too little work for a second thread.

**The rule.** Work is large if rows × parameters, the multiply-adds of a forward pass of fully connected layers, exceed
`LARGE` = 2²⁵ (2 to 10 ms a gradient step in one thread). Each gradient step, rollout and evaluation is judged by
itself: a round's one gradient step may be large where acting in a few environments is small. A convolution uses a
parameter again at each place of a row, so a network with a parameter of more than two dimensions is counted as if it
used all of them once for each number of a row: an upper bound. A network that uses its matrices many times in one row
(recurrent, or attention) is counted as if it used them once.

**Why this number.** Two threads against one, in turns, on two cores (``python -m scripts.benchmark large``; the table
is in docs/benchmarks.md). On idle cores two threads were slower at a million, 1.3 to 1.6 times as fast from 5 to 40
million, and 1.2 to 2 times beyond. While two other programs used the cores, two threads took 3 to 7 times as long up
to 90 million, and nearly twice as long at a thousand million. So small work gains less than it may lose, and the
larger the work, the less there is to lose. Predicting 100 rows with NumPy in a network of 10,000 parameters took 8
times as long with two threads on a busy machine, and PPO with two small convolutions on images of 8 × 8 (23 million by
this count) 15 to 30 times.

**What is limited.** Each Python thread has its own number for torch; another number waits for Python threads that have
not used torch yet. Only the calling thread's is set to 1, so other Python threads keep theirs. The number of a BLAS
belongs to the process: while it is 1, NumPy has one thread in other Python threads, too. The libraries are looked up
once, at the first use; a BLAS that is loaded later is not limited (NumPy's is always there by then). While another
Python thread is in a `threadpoolctl.threadpool_limits`, OpenBLAS keeps that number.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

LARGE = 2**25

_lock = threading.Lock()
_calls = 0  # Python threads that hold the BLAS at one thread
_blas_limit: Any = None  # restores the numbers that the first of them found


def multiply_adds(network: nn.Module, width: int) -> int:
    """Multiply-adds of a row of this width: the number of parameters; with a convolution, ``width`` times that.

    Example:
        >>> multiply_adds(nn.Linear(3, 2), 3), multiply_adds(nn.Conv1d(1, 1, kernel_size=3), 10)
        (8, 40)
    """
    parameters = list(network.parameters())
    times = width if any(one.ndim > 2 for one in parameters) else 1
    return times * sum(one.numel() for one in parameters)


class _Mine(threading.local):
    """What the contexts of this Python thread have set."""

    everything = False  # within a context that holds for everything inside
    torch: int | None = None  # the user's number while torch is limited
    blas = False  # holds the BLAS at one thread


_mine = _Mine()


@contextlib.contextmanager
def one_thread(work: float | None = None, *, numpy_alone: bool = False) -> Iterator[None]:
    """A context in which torch (in this Python thread) and the BLAS have one thread, or the user's for large work.

    The innermost context with ``work`` decides; one without ``work`` holds for everything inside. Contexts may overlap
    in several Python threads and be left in any order, also by an exception: torch's number of each thread is restored
    when that thread leaves, the BLAS's number when the last one leaves.

    Args:
        work: rows × `multiply_adds`; above `LARGE` the user's numbers hold. None: one thread, whatever the work is.
        numpy_alone: leave torch alone, because NumPy computes everything.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    if _mine.everything:
        yield
        return
    small, before = work is None or work <= LARGE, (_mine.torch is not None, _mine.blas)
    try:
        _mine.everything = work is None
        _limit_torch(before[0] if numpy_alone else small)
        _limit_blas(small)
        yield
    finally:
        _mine.everything = False
        try:
            _limit_torch(before[0])
        finally:
            _limit_blas(before[1])


def _limit_torch(limited: bool) -> None:
    """Set torch's number for this Python thread: 1, or the user's."""
    users = _mine.torch
    if limited and users is None:
        _mine.torch = torch.get_num_threads()
        if _mine.torch > 1:
            _set_in_this_thread(1)
    elif users is not None and not limited:
        _mine.torch = None
        if users > 1:
            _set_in_this_thread(users)


def _set_in_this_thread(number: int) -> None:
    """Set torch's number for this Python thread and not, as torch does, for new ones as well."""
    with _lock, ThreadPoolExecutor(1) as new_thread:
        default = new_thread.submit(torch.get_num_threads).result()
        try:
            torch.set_num_threads(number)
        finally:
            new_thread.submit(torch.set_num_threads, default).result()


def _limit_blas(limited: bool) -> None:
    """Hold the BLAS at one thread, or no longer; when no Python thread holds it, it has the user's number."""
    global _calls, _blas_limit
    if limited == _mine.blas:
        return
    with _lock:
        if limited and _calls == 0:
            _blas_limit = _blas().limit(limits=1)
            _release()
        _mine.blas = limited
        _calls += 1 if limited else -1
        if _calls == 0:
            _blas_limit.restore_original_limits()
            _release()


def _release() -> None:
    """Let any Python thread set the number again; threadpoolctl keeps OpenBLAS for the one that set it last."""
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):  # since threadpoolctl 3.7
            library.clear_controlling_thread()


@functools.cache
def _blas() -> Any:
    """The process's BLAS libraries. Looking them up costs a hundred times as much as limiting them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
