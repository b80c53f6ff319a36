"""One engine in a process of its own, driven over pipes: ``python -m bench.worker ENGINE``.

Engines in one process disturb each other, for thread pools go on spinning after their work. `Worker` is the driver's
end of the pipe: it sends one request a line, as JSON, and reads one answer a line.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from bench.cases import aligned, all_cases, make_arrays
from bench.engines import ENGINES, Engine, Run
from bench.machine import peak_memory
from bench.peers import UnsupportedError
from bench.timing import measure_call

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerError(RuntimeError):
    """The worker failed; the message is what it said."""


class Worker:
    """A running worker process. Use it as a context manager.

    `folder` is one that holds a package fastpool: the worker then measures that one, with the benchmarks of this file.
    """

    def __init__(self, engine: str, threads: int, folder: Path = ROOT) -> None:
        self.engine = engine
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", engine, str(threads)],
            cwd=folder,  # which comes before PYTHONPATH
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process by closing its input."""
        with suppress(BrokenPipeError):  # it may have ended by itself
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def versions(self) -> dict[str, str]:
        """Return the versions of the engine's packages."""
        return self._ask("versions")

    def prepare(self, case_id: str, dtype: str) -> str | None:
        """Make a case ready and run it once; return the variant chosen, or None where the engine cannot compute it."""
        return self._ask("prepare", case_id, dtype)

    def origin(self, package: str) -> str:
        """Return the folder that a package was imported from."""
        return self._ask("origin", package)

    def load(self, model: str, x: str, as_layer: bool = False) -> dict[str, float]:
        """Load a network from a file, `as_layer` if it is one convolution, and run it once on another file's array.

        Returns the seconds that both took, and the process's memory in bytes: before, and the most it has had.
        """
        return self._ask("load", model, x, as_layer)

    def measure(self, warm: float, span: float) -> float:
        """Return the median time of a call, after running it uncounted for `warm` seconds."""
        return self._ask("measure", warm, span)

    def seconds(self) -> float:
        """Return the processor time that the process has used."""
        return self._ask("seconds")

    def result(self, folder: str) -> np.ndarray:
        """Return the array that the prepared case computes, by way of a file in `folder`."""
        path = Path(folder) / f"{self.engine}.npy"
        self._ask("save", str(path))
        array = np.load(path)
        path.unlink()
        return array

    def _ask(self, command: str, *arguments: Any) -> Any:
        """Send one request and wait for its answer."""
        self.send(command, *arguments)
        return self.receive()

    def send(self, command: str, *arguments: Any) -> None:
        """Send one request; others may be sent to other workers before `receive` takes the answer."""
        stdin = self._process.stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # it is gone; the empty answer says so
            stdin.write(json.dumps([command, *arguments]) + "\n")
            stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer to the request before."""
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise WorkerError(f"the {self.engine} process ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.engine}: {answer['error']}")
        return answer["value"]


class _Server:
    """The worker's end: holds the prepared case, and answers one request at a time."""

    def __init__(self, engine: Engine, threads: int) -> None:
        self.engine = engine
        self.threads = threads
        self.run: Run | None = None

    def versions(self) -> dict[str, str]:
        """Return the versions of the engine's packages."""
        return self.engine.versions()

    def origin(self, package: str) -> str:
        """Return the folder that a package is imported from."""
        return str(Path(str(importlib.import_module(package).__file__)).parent)

    def prepare(self, case_id: str, dtype: str) -> str | None:
        """Prepare a case in place of the one before."""
        self.run = None  # frees the arrays of the one before
        case = all_cases()[case_id]
        try:
            variant, run = self.engine.make(case, make_arrays(case, dtype), self.threads)
        except UnsupportedError:
            return None
        run()
        self.run = run
        return variant

    def load(self, model: str, x: str, as_layer: bool) -> dict[str, float]:
        """Load a network in place of the case before, and run it once."""
        self.run = None
        opener = (as_layer and self.engine.layer_opener) or self.engine.opener
        if opener is None:
            raise UnsupportedError(f"{self.engine.name} loads no networks")
        loader, given = opener(), np.load(x)
        array = aligned(given.shape, given.dtype)
        array[...] = given
        before, start = peak_memory(), perf_counter()
        run = loader(model, array, self.threads)
        loaded = perf_counter()
        run()
        seconds = {"load": loaded - start, "first_run": perf_counter() - loaded}
        self.run = run
        return seconds | {"memory_before": before, "memory": peak_memory()}

    def measure(self, warm: float, span: float) -> float:
        """Time the prepared case."""
        return measure_call(self._prepared(), warm, span)

    def seconds(self) -> float:
        """Return the processor time used, by all threads."""
        return process_time()

    def save(self, path: str) -> None:
        """Store what the prepared case computes."""
        np.save(path, self._prepared()())

    def _prepared(self) -> Run:
        """Return the prepared case."""
        if self.run is None:
            raise RuntimeError("no case is prepared")
        return self.run


def main() -> None:
    """Answer requests until the input ends."""
    engine, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr and cannot break an answer
    server = _Server(ENGINES[engine], int(threads))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = {"value": getattr(server, command)(*arguments)}
        except Exception as error:  # told to the driver, which decides
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
