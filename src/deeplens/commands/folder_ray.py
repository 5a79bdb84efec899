"""A folder's photos on many machines, through Ray Data: the same stages, an actor a machine's share of cores.

Every machine must see the photos and the output folder under the same names, and have the artefacts or weights.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from deeplens.commands.folder_jobs import Job
from deeplens.commands.folder_stages import Look, Refocusing
from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.runtimes.pipeline import Passage, pipeline

BATCH = 8
"""Photos that an actor takes at once: its stages overlap within them."""


class RefocusActor:
    """Opens the networks once, in a process of its own; called with batches of jobs."""

    def __init__(self, look: Look) -> None:
        self._refocusing = Refocusing(look)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """{"index": …, "job": …} → {"index": …, "passage": …}."""
        found = list(pipeline(batch["job"], self._refocusing.stages))
        return {"index": batch["index"], "passage": found}


def passages(look: Look, jobs: Sequence[Job], *, address: str) -> Iterator[Passage]:
    """Refocus all jobs, in any order; as `runtimes.pipeline.pipeline` otherwise.

    Args:
        address: of a Ray cluster; "local" starts one on this machine. Actors take `look.threads` cores each, or one.

    Raises:
        MissingError: Ray is not installed.
        InputError: the cluster can't be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingError(f"Ray can't be imported ({error}): {pip_install('ray')}") from error
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no Ray cluster at '{address}' ({error}): start one, or give --ray local") from error
    try:
        cores = look.threads or 1
        actors = max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
        rows = [{"index": index, "job": job} for index, job in enumerate(jobs)]
        data = ray.data.from_items(rows, override_num_blocks=max(actors, -(-len(rows) // BATCH)))
        results = data.map_batches(
            RefocusActor, fn_constructor_args=(look,), batch_size=BATCH, num_cpus=cores, concurrency=(1, actors)
        )
        for row in results.iter_rows():
            yield row["passage"]
    finally:
        ray.shutdown()
