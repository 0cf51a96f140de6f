"""Run one function over many independent parts: here, in processes, or on a Ray cluster; results in the order of the parts.

The function and what it is given travel by pickle, so it is a module's function. What it writes must not depend on which worker
runs it; then every engine gives the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.connection import wait
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from acclimate.errors import EnvironmentUnfitError

Engine = Literal["local", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")


def run_parts(function: Callable[[Job], Result], jobs: Sequence[Job], *, engine: Engine = "local", workers: int = 1) -> Iterator[Result]:
    """Apply `function` to each job; the results come in the order of the jobs.

    Args:
        engine: `local`: this process, or a pool of `workers` processes; `ray`: tasks on the cluster that RAY_ADDRESS names,
            or on one of `workers` CPUs that is started here and stopped at the end.
        workers: processes; 0 is one for each core.

    Raises:
        EnvironmentUnfitError: Ray is asked for and not installed, or a worker was killed.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), max(1, len(jobs)))
    if engine == "ray":
        yield from _run_on_ray(function, jobs, workers)
    elif workers == 1:
        yield from map(function, jobs)
    else:
        yield from _run_in_processes(function, jobs, workers)


def _run_in_processes(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Spawned, not forked: threads of the libraries that are loaded here do not survive a fork."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker) as pool:
        try:
            yield from pool.map(function, jobs)
        except BrokenProcessPool:
            raise EnvironmentUnfitError(
                f"one of {workers} workers was killed, most likely because memory ran out; lower ingest.workers. Finished parts are kept"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()  # half a part is nothing; whole ones lie in scratch
            raise


def start_worker() -> None:
    """Leave Ctrl-C to the parent, use one core, and end when the parent ends, even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _run_on_ray(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:
        # Ray runs what it is sent, listens on every interface, and reads these when it is imported.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise EnvironmentUnfitError(
            "ingest.engine is `ray`, which is not installed: pip install 'acclimate[ray]', or use `local`"
        ) from None
    with ExitStack() as stack:
        if not ray.is_initialized():
            # Without an address Ray joins whatever /tmp/ray/ray_current_cluster names, a file that every user may write.
            settings: dict[str, Any] = (
                {"address": address} if address else {"address": "local", "num_cpus": workers, "include_dashboard": False}
            )
            if not address:
                # Ray makes its directories writable for everybody; the one around them lets nobody else in. Short, as they hold sockets.
                private = stack.enter_context(TemporaryDirectory(prefix="acclimate-ray-", ignore_cleanup_errors=True))
                settings["_temp_dir"] = f"{private}/ray"
            ray.init(log_to_driver=False, configure_logging=False, **settings)
            stack.callback(ray.shutdown)
        task = ray.remote(max_retries=3)(function)
        pending = [task.remote(job) for job in jobs]
        for reference in pending:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
